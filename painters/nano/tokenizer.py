"""The nano tokenizer: words of the closed world, single digits, and characters and bytes for the rest.

Every text survives encode and decode unchanged. A word carries its leading space (" robin"), so that a text is the
plain concatenation of its tokens.
"""

from __future__ import annotations

import random
import re
import string
from collections import Counter
from functools import cache

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from painters.nano.corpus import document, text_of
from painters.nano.world import facts

PAD, BOS, EOS, UNK = "<pad>", "<s>", "</s>", "<unk>"
SPECIALS = (PAD, BOS, EOS, UNK)
PATTERN = r" ?[A-Za-z]+| ?[0-9]|\n| ?[^A-Za-z0-9 \n]+| "
MULTIPLE = 64
CONTEXT = 512


@cache
def vocabulary() -> tuple[str, ...]:
    """Return all tokens in the order of their ids.

    Special tokens, bytes, words by their frequency in a fixed sample, characters.
    """
    draw = random.Random(1000)
    count: Counter[str] = Counter()
    split = re.compile(PATTERN).findall
    for i in range(30_000):
        count.update(split(text_of(document(draw, i % 2))))
    for fact in facts():
        for sentence in (*fact.statements, *fact.questions, fact.answer):
            count.update(split(" " + sentence))
            count.update(split(sentence[0].upper() + sentence[1:]))
    characters = [c for c in string.printable if c.isprintable()] + ["\n"]
    count.update({" " + digit: 1 for digit in string.digits})
    words = [word for word, _ in sorted(count.items(), key=lambda pair: (-pair[1], pair[0])) if word not in characters]
    tokens = [*SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256)), *words, *characters]
    tokens += [f"<unused{i}>" for i in range(-len(tokens) % MULTIPLE)]
    return tuple(tokens)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Return the tokenizer of the bundled folder; it adds no token at either end."""
    tokens = vocabulary()
    # A unigram model prefers few good pieces: a known word (cost 5) beats its characters (20 each) and bytes (30 each).
    costs = [0.0 if t in SPECIALS else 30.0 if t.startswith("<0x") else 20.0 if len(t) == 1 else 5.0 for t in tokens]
    costs = [100.0 if t.startswith("<unused") else cost for t, cost in zip(tokens, costs, strict=True)]
    pieces = [(token, -cost) for token, cost in zip(tokens, costs, strict=True)]
    backend = Tokenizer(models.Unigram(pieces, unk_id=tokens.index(UNK), byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(PATTERN), "isolated")
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    backend.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
