"""The model class of lm-eval for a model that follows a plan."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import inspect
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, cast

import torch
from lm_eval.api.model import CacheHook
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM

from painters import variants
from painters.engine import KINDS_OF_KV, KV, surgery
from painters.harness import generation
from painters.harness.kept import PlanAnswers
from painters.harness.tasks import quiet
from painters.models import BUNDLED, load_model
from painters.models.adapters import find_adapter
from painters.models.source import find_source, join_gguf
from painters.plan import Plan, PlanError
from painters.ranks import Ranks, ranks
from painters.stack import LayerStack, SurgeryError
from painters.tasks import ScoringError
from painters.variants import VariantError

__all__ = ["PaintersLM", "language_model"]

_PARAMETERS = {name for variant in variants.VARIANTS.values() for name in variant.parameters}


@register_model("painters")
class PaintersLM(HFLM):  # type: ignore[misc]
    """lm-eval's `hf` model under a plan.

    lm-eval finds it by the name "painters": `painters lm-eval --model painters --model_args pretrained=...,plan=...`.
    Its numbers are those of `hf`, to the last digit for the identity plan.

    Args:
        pretrained: The name of a model, or a loaded model.
        plan: The plan. An empty text is the model as it is.
        kv: How parallel groups fill the cache: "exact", or "averaged" as in the paper's released code.
        variant: The name of a variant that builds the plan, instead of `plan`.
        stack: The stack of layers that the plan runs, where there are several, such as "decoder".
        **options: The parameters of the variant, as for `painters run`, and the options of lm-eval's `hf` model.

    Attributes:
        plan: The plan that runs, or None for the model as it is.
        kv: How it fills the cache.
        ranks: The processes that share the requests. lm-eval by itself shares documents.
        exact_batching: Whether the batches are lm-eval's own. Then its own loop generates, and no row leaves early.
        known_answers: The first answer to each prompt, offered to later plans as a draft; None to keep none.
        rows_left: The number of rows that fitted into memory, where those that were asked for did not; else None.
        kept: The answers of the plan that an interrupted scoring left, and where others are kept; None to keep none.
        not_finite: How many texts so far were decoded from logits without a finite number to choose by.

    Raises:
        PlanError: The plan is not a plan, or does not fit the model.
        SurgeryError: The model or its cache cannot follow the plan.
        VariantError: The variant, its parameters or `kv` are unknown, or both a plan and a variant are given.

    Examples:
        >>> from painters.harness import PaintersLM
        >>> lm = PaintersLM("nano-llama", variant="parallel", start=4, loops=2, device="cpu")
        >>> str(lm.plan)
        '0-4 {5-7}*2 8-11'
    """

    ranks: Ranks = Ranks()
    exact_batching: bool = True
    known_answers: generation.KnownAnswers | None = None
    rows_left: int | None = None
    kept: PlanAnswers | None = None
    not_finite: int = 0

    def __init__(
        self,
        pretrained: Any,
        plan: str | int = "",
        kv: str = "exact",
        variant: str | None = None,
        stack: str | None = None,
        **options: Any,
    ) -> None:
        parameters = {name: options.pop(name) for name in _PARAMETERS & options.keys()}
        _check(plan, kv, variant, parameters)
        of_model = {"pretrained": getattr(pretrained, "name_or_path", pretrained), "stack": stack, **options}
        self._identity = _lasting(of_model)
        if isinstance(pretrained, str):
            pretrained = join_gguf(pretrained, options.pop("gguf_file", None))
        if isinstance(pretrained, str) and _is_loaded_by_painters(pretrained):
            device = options.pop("device", None)
            if str(device).startswith("cuda") and not torch.cuda.is_available():
                device = None  # lm-eval asks for one by default, and takes what there is
            dtype = str(options.pop("dtype", "auto"))
            pretrained, options["tokenizer"] = load_model(pretrained, device=device, dtype=dtype)
        with quiet():  # it warns of models that are loaded already, which is how ours come
            super().__init__(pretrained=pretrained, **options)
        self._fills_cache = True
        """Whether no plan has refused the model's cache yet."""
        self._takes_use_cache = "use_cache" in inspect.signature(self.model.forward).parameters
        self.kv, self.stack = kv, stack
        self.plan: Plan | None = Plan.parse(str(plan)) if plan != "" else None
        if variant is not None:
            self.plan = variants.build(variant, LayerStack.find(self.model, stack).num_layers, **parameters)
        self._surgery = contextlib.ExitStack()  # lasts as long as this object
        if self.plan is not None:
            self._surgery.enter_context(surgery(self.model, self.plan, kv=cast(KV, kv), stack=stack, threads="all"))

    def get_model_info(self) -> dict[str, Any]:
        """Return what lm-eval writes about the model into its results: with a plan, the plan too."""
        info: dict[str, Any] = super().get_model_info()
        if self.plan is not None:
            info = {**info, "plan": str(self.plan), "layer_runs": self.plan.layer_runs, "kv": self.kv}
            info |= {} if self.stack is None else {"stack": self.stack}
        return info

    def set_cache_hook(self, cache_hook: CacheHook) -> None:
        """Offer answers to `cache_hook` from now on.

        lm-eval's cache is a table in a file, and its keys are the requests alone. Here each model, plan and `kv` gets
        a table of its own, so that their answers do not mix, whatever file they are given.

        Args:
            cache_hook: lm-eval's hook, with or without a file behind it.
        """
        super().set_cache_hook(cache_hook)
        table = getattr(cache_hook, "dbdict", None)
        if table is not None:
            key = json.dumps([self._identity, str(self.plan), self.kv], sort_keys=True)
            name = f"painters_{hashlib.sha256(key.encode()).hexdigest()[:16]}"
            table.conn.execute(f'CREATE TABLE IF NOT EXISTS "{name}" (key TEXT PRIMARY KEY, value BLOB)')
            table.conn.commit()
            table.tablename = name

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, left_truncate_len: int | None = None, **kwargs: Any
    ) -> list[int]:
        """Return the tokens of a text as `hf` does, also where the tokenizer names neither a BOS nor an EOS token.

        Args:
            string: The text.
            add_special_tokens: Whether special tokens are added; None for what the model was made with.
            left_truncate_len: Keep only the last so many tokens.
            **kwargs: What `hf` ignores.

        Returns:
            The tokens.
        """
        if add_special_tokens is None and self.prefix_token_id is None:
            # `hf` looks whether the text begins with that token, and fails where there is none.
            add_special_tokens = self.add_bos_token
            if add_special_tokens is None:
                tokens: list[int] = self.tokenizer.encode(string)
                return tokens[-left_truncate_len:] if left_truncate_len else tokens
        encoded: list[int] = super().tok_encode(string, add_special_tokens, left_truncate_len, **kwargs)
        return encoded

    def _loglikelihood_tokens(self, requests: Any, *args: Any, **kwargs: Any) -> Any:
        """Answer tokenised requests as `hf` does, after a check that each begins with a token."""
        self.refuse_missing_prefix(requests)
        return super()._loglikelihood_tokens(requests, *args, **kwargs)

    def refuse_missing_prefix(self, requests: Sequence[Any]) -> None:
        """Raise ScoringError where a text without a context is to be scored, and no token can stand before it.

        Args:
            requests: Tokenised requests, as lm-eval's `_loglikelihood_tokens` takes them.
        """
        if any(None in context for _, context, _ in requests):
            raise ScoringError(
                "a text is scored without a context, which begins with the BOS or EOS token, and the model's tokenizer "
                "names neither: set tokenizer.bos_token or eos_token, or one of them in tokenizer_config.json"
            )

    def _model_call(self, inps: Any, attn_mask: Any = None, labels: Any = None) -> Any:
        """Return the logits [batch, seq, vocab] as `hf` does.

        It lets the model fill a cache that nobody reads, which can change the last bits. Where a plan cannot place
        slots in that cache, there is none.
        """
        if attn_mask is not None or labels is not None or not self._takes_use_cache:
            return super()._model_call(inps, attn_mask, labels)
        if self._fills_cache:
            try:
                return super()._model_call(inps)
            except SurgeryError:
                self._fills_cache = False
        mixed = self.mixed_precision_dtype
        with torch.no_grad(), torch.autocast(self.device.type, dtype=mixed, enabled=mixed is not None):
            return self.model(inps, use_cache=False).logits

    def _model_generate(self, context: Any, *args: Any, **kwargs: Any) -> Any:
        """Generate as lm-eval's own loop does, and count the rows without a finite logit to choose a token by."""
        finite, thread = torch.ones(len(context), dtype=torch.bool), threading.get_ident()

        def check_logits(_: Any, __: Any, output: Any) -> None:
            logits = getattr(output, "logits", None) if threading.get_ident() == thread else None
            if logits is not None and len(logits) == len(finite):
                finite.logical_and_(logits[:, -1].amax(-1).isfinite().cpu())

        handle = self.model.register_forward_hook(check_logits)
        try:
            return super()._model_generate(context, *args, **kwargs)
        finally:
            handle.remove()
            self.not_finite += int((~finite).sum())

    def generates_by_itself(self, requests: Sequence[Any]) -> bool:
        """Return whether our own greedy decoding answers these requests instead of lm-eval's loop.

        Args:
            requests: lm-eval's requests to generate a text.
        """
        return not self.exact_batching and self.kv == "exact" and generation.can_answer(self, requests)

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Return lm-eval's answers to the requests.

        Our own greedy decoding gives them where it can stand for lm-eval's loop.

        Args:
            requests: lm-eval's requests to generate a text.
            disable_tqdm: Whether to show no progress bar.

        Returns:
            The texts, in the order of the requests.
        """
        by_lm_eval = super().generate_until
        by_itself = self.generates_by_itself(requests)

        def answered(positions: Sequence[int]) -> list[tuple[int, str]]:
            some = [requests[position] for position in positions]
            kept = None if self.kept is None else self.kept.texts(positions)
            if by_itself:
                texts = generation.answer(self, some, by_lm_eval, disable_tqdm, self.known_answers, kept)
            elif kept is not None:
                texts = generation.answer_by_batches(self, some, by_lm_eval, kept)
            else:
                texts = by_lm_eval(some, disable_tqdm)
            return list(zip(positions, texts, strict=True))

        if self.ranks.size == 1:
            return [text for _, text in answered(range(len(requests)))]
        return self._generate_by_shares(requests, answered)

    def _generate_by_shares(
        self, requests: list[Any], answered: Callable[[Sequence[int]], list[tuple[int, str]]]
    ) -> list[str]:
        """Return the answers, each from the process whose share of lm-eval's batches contains its request."""
        batches = generation.batches(self, requests)
        not_finite_before = self.not_finite

        def own_share() -> tuple[list[tuple[int, str]], int, int | None]:
            pairs = answered([position for batch in self.ranks.mine(batches) for position in batch])
            return pairs, self.not_finite - not_finite_before, self.rows_left

        shares = self.ranks.gathered(own_share)
        self.not_finite = not_finite_before + sum(not_finite for _, not_finite, _ in shares)
        self.rows_left = min((rows for _, _, rows in shares if rows is not None), default=None)
        texts = dict(pair for pairs, _, _ in shares for pair in pairs)
        return [texts[position] for position in range(len(requests))]


def _check(plan: str | int, kv: str, variant: str | None, parameters: dict[str, Any]) -> None:
    """Raise PlanError or VariantError for options that cannot be right for any model."""
    if isinstance(plan, bool) or not isinstance(plan, (str, int)):
        raise PlanError(
            f"the plan was read as {plan!r}: give model_args as JSON, "
            '--model_args \'{"pretrained": "...", "plan": "..."}\''
        )
    if variant is not None and plan != "":
        raise VariantError(f"plan={plan} and variant={variant} were both given: give one")
    if variant is None and parameters:
        raise VariantError(f"{next(iter(parameters))} belongs to a variant, and none is given: add variant=...")
    if variant is not None:
        variants.find(variant)
    if kv not in KINDS_OF_KV:
        raise VariantError(f"kv is {kv!r}: it must be one of {', '.join(map(repr, KINDS_OF_KV))}")


def _is_loaded_by_painters(name: str) -> bool:
    """Return whether lm-eval itself cannot load a model of this name, or not as painters does."""
    return name in BUNDLED or find_source(name).gguf_file is not None or find_adapter(name) is not None


def _lasting(options: dict[str, Any]) -> dict[str, str]:
    """Return, as texts, the options that can change an answer by more than rounding does."""
    passing = {"device", "batch_size", "max_batch_size", "parallelize", "tokenizer"}
    return {name: str(value) for name, value in options.items() if name not in passing and value is not None}


LM = TypeVar("LM", bound=PaintersLM)


@contextlib.contextmanager
def language_model(kind: type[LM], model: Any, tokenizer: Any, batch_size: int) -> Iterator[LM]:
    """Yield the loaded model for lm-eval as a `kind`.

    Its tokenizer stays untouched, and its modules train afterwards if they did before.
    """
    training = [module for module in model.modules() if module.training]
    try:
        # A copy, because lm-eval gives tokenizers a padding token.
        lm = kind(model, tokenizer=copy.deepcopy(tokenizer), batch_size=batch_size)
        lm.ranks = ranks()
        yield lm
    finally:
        for module in training:
            module.training = True
