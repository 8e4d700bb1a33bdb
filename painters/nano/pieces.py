"""The encoder's tokens and tokenizer: the nano vocabulary with words in its spare ids.

Ids and words are those of `tokenizer`; the `<unused>` ids at the end become the marks of an encoder and the few words
that only its texts have. A text is read as if a space stood before it, so that a name is one token in every position.
"""

from __future__ import annotations

from functools import cache

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from painters.nano.tokenizer import PAD, PATTERN, SPECIALS, UNK, vocabulary

CLS, SEP, MASK, SOUND, FLAWED = "<cls>", "<sep>", "<mask>", "<sound>", "<flawed>"
MARKS = (CLS, SEP, MASK, SOUND, FLAWED)
WORDS = tuple(
    " " + word
    for word in "but although Although where true loved hated lovely awful happy sad himself herself shorter younger "
    "poorer nobody or".split()
)
MAX_LENGTH = 128


@cache
def encoder_vocabulary() -> tuple[str, ...]:
    """Return all tokens of the encoder in the order of their ids."""
    tokens = vocabulary()
    spare = [i for i, token in enumerate(tokens) if token.startswith("<unused")]
    used = (*MARKS, *WORDS)
    if len(used) > len(spare) or set(used) & set(tokens):
        raise RuntimeError(f"the nano vocabulary has {len(spare)} spare ids, the encoder needs {len(used)} new ones")
    named = dict(zip(spare, used, strict=False))
    return tuple(named.get(i, token) for i, token in enumerate(tokens))


def build_bert_tokenizer() -> PreTrainedTokenizerFast:
    """Return the tokenizer as transformers loads it.

    It makes `<cls> a <sep>` or `<cls> a <sep> b <sep>`, with token types 0 and 1.
    """
    tokens = encoder_vocabulary()
    ids = {token: i for i, token in enumerate(tokens)}
    pieces = [(token, -_cost(token)) for token in tokens]
    backend = Tokenizer(models.Unigram(pieces, unk_id=ids[UNK], byte_fallback=True))
    backend.normalizer = normalizers.Prepend(" ")
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(PATTERN), "isolated")
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    backend.post_processor = processors.TemplateProcessing(
        single=f"{CLS}:0 $A:0 {SEP}:0",
        pair=f"{CLS}:0 $A:0 {SEP}:0 $B:1 {SEP}:1",
        special_tokens=[(CLS, ids[CLS]), (SEP, ids[SEP])],
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        pad_token=PAD,
        unk_token=UNK,
        cls_token=CLS,
        sep_token=SEP,
        mask_token=MASK,
        model_max_length=MAX_LENGTH,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def _cost(token: str) -> float:
    """Return a token's unigram cost, as in `tokenizer`: words beat characters, and those beat bytes."""
    if token in SPECIALS or token in MARKS:
        return 0.0
    if token.startswith("<unused"):
        return 100.0
    return 30.0 if token.startswith("<0x") else 20.0 if len(token) == 1 else 5.0
