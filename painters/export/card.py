"""The files beside an export's weights for people and for mergekit: the model card and the recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import yaml

from painters import __version__
from painters.drawing import plan_text
from painters.plan import Plan

MERGEKIT: Final = "mergekit.yaml"

_CARD = """# {title}

This is {source} with its layers run by another plan. No weight was changed, and nothing was trained.

**The model is not healed.** Its layers were trained to run once each, in their own order, and were not trained for this
plan. The loss differs from task to task: measure it on yours before you use the model, and consider fine-tuning it.

| | |
|---|---|
| plan | `{plan}` |
| source | {source} |
| revision | {revision} |
| layers | {layers} |
| layer runs | {runs}, depth {depth} |
| dtype | {dtype} |
| written by | painters {version}, transformers {transformers} |
| checked | {covers}: equal, bit for bit, to those of the source under the plan |

```text
{drawing}
```

## Load it

```python
from transformers import AutoTokenizer, {auto}

model = {auto}.from_pretrained("{folder}"{trust})
tokenizer = AutoTokenizer.from_pretrained("{folder}"{trust})
```

{more}"""

_PLAIN = """The layers of this checkpoint, from 0, are these layers of the source:

```text
{order}
```
"""

_CODE = """The plan is run by `modeling_planned.py`, which comes with the checkpoint and needs only torch and
transformers. Read it before you trust it. The weights are the source's, each stored once.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """The facts in the README.md of an export."""

    title: str
    source: str
    revision: str | None
    plan: Plan
    num_layers: int
    """Layers of the source."""
    dtype: str
    auto_class: str
    with_code: bool
    trust_remote_code: bool
    covers: str
    """What was compared with the source."""

    def text(self) -> str:
        """Return the Markdown text."""
        import transformers

        plan = self.plan
        layers = f"{plan.layer_runs}, made of {len(plan.layers)} of the source's {self.num_layers}"
        if self.with_code:
            layers = f"{self.num_layers}, of which the plan runs {len(plan.layers)}"
        order = " ".join(str(layer.index) for layer in plan.walk())
        body = _CARD.format(
            title=self.title,
            source=self.source,
            revision=self.revision or "–",
            plan=plan,
            layers=layers,
            runs=plan.layer_runs,
            depth=plan.depth,
            dtype=self.dtype,
            version=__version__,
            transformers=transformers.__version__,
            covers=self.covers,
            drawing=plan_text(plan, self.num_layers, width=100).rstrip(),
            auto=self.auto_class,
            folder=self.title,
            trust=", trust_remote_code=True" if self.trust_remote_code else "",
            more=_CODE if self.with_code else _PLAIN.format(order=order),
        )
        return f"---\n{yaml.safe_dump(self._metadata(), sort_keys=True)}---\n\n{body}"

    def _metadata(self) -> dict[str, Any]:
        """Return the fields that the hub reads."""
        metadata: dict[str, Any] = {"library_name": "transformers", "tags": ["painters", "layer-surgery"]}
        is_on_hub = self.source.count("/") == 1 and not self.source.startswith((".", "/", "~"))
        return metadata | ({"base_model": self.source} if is_on_hub else {})


def recipe(model: str, order: Sequence[int], dtype: str) -> str:
    """Return a mergekit recipe for the same weights: a slice for every run of consecutive layers in `order`."""
    slices = [{"sources": [{"model": model, "layer_range": [a, b]}]} for a, b in _consecutive(order)]
    fields = {"slices": slices, "merge_method": "passthrough", "dtype": dtype}
    note = (
        "# A mergekit recipe for the weights of this checkpoint (a layer_range excludes its second number).\n"
        "# mergekit does not reorder fields of the configuration such as layer_types: it stops after it has written\n"
        "# the weights, or keeps the source's values. Then take config.json from this folder. For some heads, such as\n"
        "# BERT's, mergekit leaves out tensors.\n"
    )
    text: str = yaml.safe_dump(fields, sort_keys=False)
    return note + text


def _consecutive(order: Sequence[int]) -> list[tuple[int, int]]:
    """Return (first, end) of every run of consecutive layers, end exclusive."""
    breaks = [0, *(i for i, (a, b) in enumerate(pairwise(order), 1) if b != a + 1), len(order)]
    return [(order[a], order[b - 1] + 1) for a, b in pairwise(breaks)]
