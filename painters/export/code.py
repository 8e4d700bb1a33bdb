"""The modelling file of an export with code: a subclass of the model's own class that runs a plan without painters."""

from __future__ import annotations

import importlib.util
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import transformers
from transformers import PreTrainedModel

from painters import __version__
from painters.export.files import ExportError
from painters.plan import Half, Layer, Plan, Step
from painters.stack import LayerStack

MODULE: Final = "modeling_planned"
TEMPLATE: Final = Path(__file__).with_name("modeling.py")

_HEAD = '''"""{model} with its layers run by the plan

    {plan}

Written by painters {version} (Apache-2.0), which it does not need. Load it with trust_remote_code=True.
"""
'''

_CLASSES = """

PLAN: tuple[Any, ...] = (
{plan}
)
HALVES: dict[str, Any] = {{{halves}}}


class {config}({config_base}):
    model_type = "{model_type}"


class {cls}({base}):
    config_class = {config}
{in_float32}
    def __init__(self, config: {config}, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        follow(self, "{path}", PLAN, {returns!r}, HALVES)

    def _valid_auto_compile_criteria(self, *args: Any, **kwargs: Any) -> bool:
        return False  # what generate compiles would keep the stand-ins of one forward
"""


_IN_FLOAT32 = """    _keep_in_fp32_modules_strict = {{
{names}
    }}
"""


def class_names(model: Any) -> tuple[str, str, str]:
    """Return the names of the model's class, of its configuration's class and of its type in an export with code."""
    config = model.config
    return f"Planned{type(model).__name__}", f"Planned{type(config).__name__}", f"planned_{config.model_type}"


def half_modules(stack: LayerStack) -> Mapping[Half, tuple[str, str, str | None]]:
    """Return for each half of a layer the names of its norm, its module and what comes after it.

    ExportError where halves are more than that.
    """
    if stack.halves is None or stack.halves.children is None:
        raise ExportError(
            f"halves of {stack.layer_class} cannot be written as code: only halves that add the output of a norm and "
            "one module to the stream can. Export a plan of whole layers"
        )
    return stack.halves.children


def modelling_code(model: Any, stack: LayerStack, plan: Plan, in_float32: Sequence[str] = ()) -> str:
    """Return the text of the modelling file, which needs only torch and transformers.

    The tensors named in `in_float32` stay so where the model is loaded in half precision.
    """
    cls, config, model_type = class_names(model)
    template = TEMPLATE.read_text(encoding="utf-8")
    body = template[template.index('"""', 3) + 4 :]
    halves: Mapping[Half, Any] = half_modules(stack) if plan.has_halves else {}
    return (
        _HEAD.format(model=type(model).__name__, plan=plan, version=__version__)
        + body.replace(
            "from transformers import PreTrainedModel\n", _imports(PreTrainedModel, type(model), type(model.config))
        )
        + _CLASSES.format(
            plan=_wrapped([_literal(step) for step in literal_steps(plan.steps)]),
            halves="".join(f'\n    "{half}": {_literal(names)},' for half, names in halves.items())
            + "\n" * bool(halves),
            config=config,
            config_base=type(model.config).__name__,
            model_type=model_type,
            cls=cls,
            base=type(model).__name__,
            path=stack.path,
            returns=stack.returns,
            in_float32=_IN_FLOAT32.format(names=_wrapped([_literal(name) for name in in_float32], 8))
            if in_float32
            else "",
        )
    )


def import_from(folder: Path) -> ModuleType:
    """Import the modelling file in `folder`, without a copy in the cache of transformers."""
    name = f"painters_export_{abs(hash(folder))}"
    spec = importlib.util.spec_from_file_location(name, folder / f"{MODULE}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where typing looks up the names in annotations
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = writes
        del sys.modules[name]
    return module


def _imports(*kinds: type) -> str:
    """Return lines that import these classes, from transformers itself where it exports them (stable names)."""
    names: dict[str, list[str]] = {}
    for kind in kinds:
        is_public = getattr(transformers, kind.__name__, None) is kind
        names.setdefault("transformers" if is_public else kind.__module__, []).append(kind.__name__)
    return "".join(f"from {module} import {', '.join(sorted(names[module]))}\n" for module in sorted(names))


def _literal(value: Any) -> str:
    """Return a Python literal with double quotes."""
    return repr(value).replace("'", '"')


def _wrapped(items: Sequence[str], indent: int = 4) -> str:
    """Return the items as indented lines of a tuple or a set."""
    return textwrap.fill(
        ", ".join(items) + ",", 110, initial_indent=" " * indent, subsequent_indent=" " * indent, break_long_words=False
    )


def literal_steps(steps: Sequence[Step]) -> tuple[Any, ...]:
    """Return the steps of a plan in the form that the modelling file reads (`Program` in `modeling.py`)."""
    return tuple(_literal_step(step) for step in steps)


def _literal_step(step: Step) -> int | tuple[int, Half] | dict[str, Any]:
    """Return one step: a layer, a half of one, or a parallel group."""
    if isinstance(step, Layer):
        return step.index if step.half is None else (step.index, step.half)
    return {step.merge: tuple(literal_steps(branch) for branch in step.branches)}
