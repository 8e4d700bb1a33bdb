"""lm-eval's view of a model that follows a plan."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, cast

import torch
from lm_eval.api.model import CacheHook
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM

from painters import _harness_generation
from painters._harness_tasks import quiet
from painters.engine import KV, surgery
from painters.models import BUNDLED, load_model
from painters.plan import Plan


@register_model("painters")
class PaintersLM(HFLM):  # type: ignore[misc]
    """lm-eval's `hf` model under a plan: `lm_eval --model painters --model_args pretrained=...,plan=...`.

    Its numbers are those of `hf`, to the last digit for the identity plan. An empty `plan` is the model as it
    is.
    """

    exact_batching: bool = True
    """Whether the batches are lm-eval's: then its own loop generates, and no row leaves one early."""

    def __init__(self, pretrained: Any, plan: str = "", kv: str = "exact", **options: Any) -> None:
        if isinstance(pretrained, str) and pretrained in BUNDLED:
            device = options.pop("device", None)
            pretrained, options["tokenizer"] = load_model(pretrained, device=device)
        with quiet():  # it warns of models that are loaded already, which is how ours come
            super().__init__(pretrained=pretrained, **options)
        self._takes_use_cache = "use_cache" in inspect.signature(self.model.forward).parameters
        self.kv = kv
        """How the plan keeps keys and values."""
        self._planned = contextlib.ExitStack()
        if plan:
            self._planned.enter_context(surgery(self.model, Plan.parse(plan), kv=cast(KV, kv)))

    def _model_call(self, inps: Any, attn_mask: Any = None, labels: Any = None) -> Any:
        """The logits [batch, seq, vocab] as `hf` computes them, without filling a cache that nobody reads."""
        if attn_mask is not None or labels is not None or not self._takes_use_cache:
            return super()._model_call(inps, attn_mask, labels)
        mixed = self.mixed_precision_dtype
        with torch.no_grad(), torch.autocast(self.device.type, dtype=mixed, enabled=mixed is not None):
            return self.model(inps, use_cache=False).logits

    def generates_by_itself(self, requests: Sequence[Any]) -> bool:
        """Whether our own greedy decoding answers these requests instead of lm-eval's loop."""
        return not self.exact_batching and self.kv == "exact" and _harness_generation.can_answer(self, requests)

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """lm-eval's answers to the requests, by our own greedy decoding where it can stand for lm-eval's loop."""
        own = super().generate_until
        if self.generates_by_itself(requests):
            return _harness_generation.answer(self, requests, own, disable_tqdm)
        answers: list[str] = own(requests, disable_tqdm)
        return answers


class Counter(CacheHook):  # type: ignore[misc]
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
        yield kind(model, tokenizer=copy.deepcopy(tokenizer), batch_size=batch_size)
    finally:
        for module in training:
            module.training = True
