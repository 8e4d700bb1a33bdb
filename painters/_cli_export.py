"""What `painters export` asks for, and what it says when it is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from painters import bundled
from painters.export import Exported, check, export, readable, stored_dtype
from painters.plan import Plan


@dataclass(frozen=True)
class Request:
    """An export as it was asked for; `options` are those of `painters.export`."""

    wanted: Callable[[int], Plan]
    """The plan for a model of so many layers."""
    model: str
    revision: str | None
    dtype: str | None
    device: str | None
    trust_remote_code: bool
    to: Path
    options: dict[str, Any]

    def check(self) -> None:
        """Nothing; raises where something is wrong that shows before the minutes of loading."""
        count = bundled.num_layers(self.model)
        if count is None:
            from painters.models import num_layers

            count = num_layers(self.model, revision=self.revision, trust_remote_code=self.trust_remote_code)
        plan = self.wanted(count)
        plan.check(count, self.model)
        check(plan, self.to, **self.options)


def written(request: Request) -> Exported:
    """What was written."""
    from painters.models import load_model
    from painters.stack import LayerStack

    model, tokenizer = load_model(
        request.model,
        revision=request.revision,
        dtype=request.dtype or stored_dtype(request.model),
        device=request.device,
        trust_remote_code=request.trust_remote_code,
        encoders=True,
    )
    plan = request.wanted(LayerStack.find(model).num_layers)
    return export(model, plan, request.to, tokenizer=tokenizer, source=request.model, **request.options)


def told(done: Exported) -> str:
    """The lines that say so."""
    files = ", ".join(done.files)
    trust = ", trust_remote_code=True" if done.trust_remote_code else ""
    return (
        f"{done.source} under {done.plan}: {done.num_layers} layers, {readable(done.weights)} of weights\n"
        f"Written to {done.folder}: {files}\n"
        f"Loaded again, {done.covers} are those of the source under the plan, bit for bit.\n\n"
        f'{done.auto_class}.from_pretrained("{done.folder}"{trust})\n\n'
        "The model is not healed: no weight was trained for the new order. Measure it before you use it."
    )
