"""lm-eval's view of a model that follows a plan."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import inspect
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, cast

import torch
from lm_eval.api.model import CacheHook
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM

from painters import variants
from painters.engine import KINDS_OF_KV, KV, surgery
from painters.harness import generation as _harness_generation
from painters.harness.tasks import quiet
from painters.models import BUNDLED, load_model
from painters.plan import Plan, PlanError
from painters.ranks import Ranks, ranks
from painters.stack import LayerStack
from painters.variants import VariantError

_PARAMETERS = {name for variant in variants.VARIANTS.values() for name in variant.parameters}


@register_model("painters")
class PaintersLM(HFLM):  # type: ignore[misc]
    """lm-eval's `hf` model under a plan: `painters lm-eval --model painters --model_args pretrained=...,plan=...`.

    Its numbers are those of `hf`, to the last digit for the identity plan. An empty `plan` is the model as it
    is. Instead of a plan a `variant` with its `parameters` can be given, as to `painters run`.
    """

    ranks: Ranks = Ranks()
    """The processes that the requests are shared out to; lm-eval, on its own, shares out documents."""
    exact_batching: bool = True
    """Whether the batches are lm-eval's: then its own loop generates, and no row leaves one early."""

    answered: _harness_generation.Answered | None = None
    """The first answers to prompts, which other plans on the same model may give too; nobody keeps them where None."""
    rows_left: int | None = None
    """Rows of the batches that memory sufficed for, where those that were asked for had no room."""
    not_finite: int = 0
    """Texts so far that were decoded from logits without a finite number to choose by."""

    def __init__(
        self, pretrained: Any, plan: str | int = "", kv: str = "exact", variant: str | None = None, **options: Any
    ) -> None:
        parameters = {name: options.pop(name) for name in _PARAMETERS & options.keys()}
        _check(plan, kv, variant, parameters)
        self._identity = {"pretrained": str(getattr(pretrained, "name_or_path", pretrained)), **_lasting(options)}
        if isinstance(pretrained, str) and pretrained in BUNDLED:
            device = options.pop("device", None)
            if str(device).startswith("cuda") and not torch.cuda.is_available():
                device = None  # lm-eval asks for one by default, and takes what there is
            pretrained, options["tokenizer"] = load_model(pretrained, device=device)
        with quiet():  # it warns of models that are loaded already, which is how ours come
            super().__init__(pretrained=pretrained, **options)
        self._takes_use_cache = "use_cache" in inspect.signature(self.model.forward).parameters
        self.kv = kv
        """How the plan keeps keys and values."""
        self.plan: Plan | None = Plan.parse(str(plan)) if plan != "" else None
        """What runs; None for the model as it is."""
        if variant is not None:
            self.plan = variants.build(variant, LayerStack.find(self.model).num_layers, **parameters)
        self._planned = contextlib.ExitStack()
        if self.plan is not None:
            self._planned.enter_context(surgery(self.model, self.plan, kv=cast(KV, kv)))

    def get_model_info(self) -> dict[str, Any]:
        """What lm-eval writes of the model into its results."""
        about = {} if self.plan is None else {"plan": str(self.plan), "layer_runs": self.plan.layer_runs, "kv": self.kv}
        return {**super().get_model_info(), **about}

    def set_cache_hook(self, cache_hook: CacheHook) -> None:
        """Nothing; from now on answers are offered to `cache_hook`.

        lm-eval keys answers by their request alone. Behind a hook lies the table of a file; each model, plan and
        `kv` gets a table of its own, so that no two of them mix, whatever file they are given.
        """
        super().set_cache_hook(cache_hook)
        table = getattr(cache_hook, "dbdict", None)
        if table is not None:
            key = json.dumps([self._identity, str(self.plan), self.kv], sort_keys=True)
            name = f"painters_{hashlib.sha256(key.encode()).hexdigest()[:16]}"
            table.conn.execute(f'CREATE TABLE IF NOT EXISTS "{name}" (key TEXT PRIMARY KEY, value BLOB)')
            table.conn.commit()
            table.tablename = name

    def _model_call(self, inps: Any, attn_mask: Any = None, labels: Any = None) -> Any:
        """The logits [batch, seq, vocab] as `hf` computes them, without filling a cache that nobody reads."""
        if attn_mask is not None or labels is not None or not self._takes_use_cache:
            return super()._model_call(inps, attn_mask, labels)
        mixed = self.mixed_precision_dtype
        with torch.no_grad(), torch.autocast(self.device.type, dtype=mixed, enabled=mixed is not None):
            return self.model(inps, use_cache=False).logits

    def _model_generate(self, context: Any, *args: Any, **kwargs: Any) -> Any:
        """What lm-eval's own loop generates, after counting the rows that had no finite number to choose a token by."""
        finite = torch.ones(len(context), dtype=torch.bool)

        def look(_: Any, __: Any, output: Any) -> None:
            logits = getattr(output, "logits", None)
            if logits is not None and len(logits) == len(finite):
                finite.logical_and_(logits[:, -1].amax(-1).isfinite().cpu())

        handle = self.model.register_forward_hook(look)
        try:
            return super()._model_generate(context, *args, **kwargs)
        finally:
            handle.remove()
            self.not_finite += int((~finite).sum())

    def generates_by_itself(self, requests: Sequence[Any]) -> bool:
        """Whether our own greedy decoding answers these requests instead of lm-eval's loop."""
        return not self.exact_batching and self.kv == "exact" and _harness_generation.can_answer(self, requests)

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """lm-eval's answers to the requests, by our own greedy decoding where it can stand for lm-eval's loop."""
        own = super().generate_until

        def answered(places: Sequence[int]) -> list[tuple[int, str]]:
            asked = [requests[place] for place in places]
            by_itself = self.generates_by_itself(requests)
            if by_itself:
                texts = _harness_generation.answer(self, asked, own, disable_tqdm, self.answered)
            else:
                texts = own(asked, disable_tqdm)
            return list(zip(places, texts, strict=True))

        if self.ranks.size == 1:
            return [text for _, text in answered(range(len(requests)))]
        return self._shared_out(requests, answered)

    def _shared_out(self, requests: list[Any], answered: Callable[[Sequence[int]], list[tuple[int, str]]]) -> list[str]:
        """The answers, each from the process whose share of lm-eval's batches its request is in."""
        batches = _harness_generation.batches(self, requests)

        before = self.not_finite

        def mine() -> tuple[list[tuple[int, str]], int, int | None]:
            found = answered([place for batch in self.ranks.mine(batches) for place in batch])
            return found, self.not_finite - before, self.rows_left

        parts = self.ranks.gathered(mine)
        self.not_finite = before + sum(odd for _, odd, _ in parts)
        self.rows_left = min((rows for _, _, rows in parts if rows is not None), default=None)
        texts = dict(pair for found, _, _ in parts for pair in found)
        return [texts[place] for place in range(len(requests))]


def _check(plan: str | int, kv: str, variant: str | None, parameters: dict[str, Any]) -> None:
    """Nothing; raises PlanError or VariantError for what cannot be right for any model."""
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


def _lasting(options: dict[str, Any]) -> dict[str, str]:
    """The options that can change an answer by more than rounding does, as text."""
    passing = {"device", "batch_size", "max_batch_size", "parallelize", "tokenizer"}
    return {name: str(value) for name, value in options.items() if name not in passing and value is not None}


class Telling(CacheHook):  # type: ignore[misc]
    """Calls `tell` for every answer: lm-eval offers each to a cache, and this one only counts."""

    def __init__(self, tell: Callable[[], None]) -> None:
        super().__init__(None)
        self._tell = tell

    def add_partial(self, attr: str, req: Any, res: Any) -> None:
        self._tell()


LM = TypeVar("LM", bound=PaintersLM)


@contextlib.contextmanager
def language_model(kind: type[LM], model: Any, tokenizer: Any, batch_size: int) -> Iterator[LM]:
    """The loaded model for lm-eval, as a `kind`; afterwards its modules train or not as before. The tokenizer stays
    untouched.
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
