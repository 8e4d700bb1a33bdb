"""What lies beside an export's weights for people and for mergekit: the model card and the recipe."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

import yaml

from painters import __version__
from painters.drawing import plan_text
from painters.plan import Plan

MERGEKIT: Final = "mergekit.yaml"

_CARD = """# {title}

This is {source} with its layers run by another plan. No weight was changed, and nothing was trained.

**The model is not healed.** Its layers were trained to run in their own order, each once, and nothing was tuned for
this one. What it costs differs from task to task: measure it on yours before you use it, and consider fine-tuning it.

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

_CODE = """The plan runs in `modeling_planned.py`, which comes with the checkpoint and needs nothing but torch and
transformers. Read it before you trust it. The weights are the source's, each stored once.
"""


def card(
    *,
    title: str,
    source: str,
    revision: str | None,
    plan: Plan,
    num_layers: int,
    dtype: str,
    auto: str,
    with_code: bool,
    trust: bool,
    covers: str,
) -> str:
    """The README.md of an export."""
    import transformers

    # tags and a base model as the hub reads them
    head: dict[str, Any] = {"library_name": "transformers", "tags": ["painters", "layer-surgery"]}
    if "/" in source and not source.startswith((".", "/", "~")) and source.count("/") == 1:
        head["base_model"] = source
    layers = f"{plan.layer_runs}, made of {len(plan.layers)} of the source's {num_layers}"
    if with_code:
        layers = f"{num_layers}, of which the plan runs {len(plan.layers)}"
    body = _CARD.format(
        title=title,
        source=source,
        revision=revision or "–",
        plan=plan,
        layers=layers,
        runs=plan.layer_runs,
        depth=plan.depth,
        dtype=dtype,
        version=__version__,
        transformers=transformers.__version__,
        covers=covers,
        drawing=plan_text(plan, num_layers, width=100).rstrip(),
        auto=auto,
        folder=title,
        trust=", trust_remote_code=True" if trust else "",
        more=_CODE if with_code else _PLAIN.format(order=" ".join(str(layer.index) for layer in plan.walk())),
    )
    return f"---\n{yaml.safe_dump(head, sort_keys=True)}---\n\n{body}"


def recipe(model: str, order: Sequence[int], dtype: str) -> str:
    """A mergekit recipe that puts the same layers together: a slice for every run of ascending layers."""
    slices = [{"sources": [{"model": model, "layer_range": [a, b]}]} for a, b in _runs(order)]
    made = {"slices": slices, "merge_method": "passthrough", "dtype": dtype}
    note = (
        "# The weights of this checkpoint by mergekit (a layer_range ends before its second number). mergekit knows\n"
        "# nothing of layer_types and the like: where the configuration has such fields, it stops when the weights\n"
        "# are written, or leaves the source's. Take config.json from here then. Of some heads, such as BERT's, it\n"
        "# leaves tensors out.\n"
    )
    text: str = yaml.safe_dump(made, sort_keys=False)
    return note + text


def _runs(order: Sequence[int]) -> list[tuple[int, int]]:
    breaks = [0, *(i for i, (a, b) in enumerate(pairwise(order), 1) if b != a + 1), len(order)]
    return [(order[a], order[b - 1] + 1) for a, b in pairwise(breaks)]
