"""The modelling file of an export with code: a class of transformers made to run a plan, without painters."""

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

    def __init__(self, config: {config}, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        follow(self, "{path}", PLAN, {returns!r}, HALVES)

    def _valid_auto_compile_criteria(self, *args: Any, **kwargs: Any) -> bool:
        return False  # what generate would compile for itself runs the stand-ins as they were then
"""


def class_names(model: Any) -> tuple[str, str, str]:
    """The names of the model's class and its configuration's, and its model type, in an export with code."""
    config = model.config
    return f"Planned{type(model).__name__}", f"Planned{type(config).__name__}", f"planned_{config.model_type}"


def _halves(stack: LayerStack) -> Mapping[Half, tuple[str, str, str | None]]:
    if stack.halves is None or stack.halves.children is None:
        raise ExportError(
            f"halves of {stack.layer_class} cannot be written down as code: only such that add what a norm and one "
            "module make of the stream can. Export a plan of whole layers"
        )
    return stack.halves.children


def modelling_code(model: Any, stack: LayerStack, plan: Plan) -> str:
    """The text of the modelling file, which needs torch and transformers only."""
    cls, config, model_type = class_names(model)
    template = TEMPLATE.read_text()
    body = template[template.index('"""', 3) + 4 :]
    halves: Mapping[Half, Any] = _halves(stack) if plan.has_halves else {}
    return (
        _HEAD.format(model=type(model).__name__, plan=plan, version=__version__)
        + body.replace(
            "from transformers import PreTrainedModel\n", _imports(PreTrainedModel, type(model), type(model.config))
        )
        + _CLASSES.format(
            plan=_wrapped([_literal(step) for step in _steps(plan.steps)]),
            halves="".join(f'\n    "{half}": {_literal(names)},' for half, names in halves.items())
            + "\n" * bool(halves),
            config=config,
            config_base=type(model.config).__name__,
            model_type=model_type,
            cls=cls,
            base=type(model).__name__,
            path=stack.path,
            returns=stack.returns,
        )
    )


def imported(folder: Path) -> ModuleType:
    """The modelling file in `folder` as a module, without a copy in the cache of the transformers library."""
    name = f"painters_export_{abs(hash(folder))}"
    spec = importlib.util.spec_from_file_location(name, folder / f"{MODULE}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where typing looks for the names that annotations mean
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = writes
        del sys.modules[name]
    return module


def _imports(*kinds: type) -> str:
    """Lines that import these classes: from transformers itself, whose names stay, where it has them."""
    found: dict[str, list[str]] = {}
    for kind in kinds:
        is_public = getattr(transformers, kind.__name__, None) is kind
        found.setdefault("transformers" if is_public else kind.__module__, []).append(kind.__name__)
    return "".join(f"from {module} import {', '.join(sorted(found[module]))}\n" for module in sorted(found))


def _literal(value: Any) -> str:
    return repr(value).replace("'", '"')


def _wrapped(items: Sequence[str]) -> str:
    return textwrap.fill(", ".join(items) + ",", 110, initial_indent="    ", subsequent_indent="    ")


def _steps(steps: Sequence[Step]) -> tuple[Any, ...]:
    return tuple(_step(step) for step in steps)


def _step(step: Step) -> int | tuple[int, Half] | dict[str, Any]:
    if isinstance(step, Layer):
        return step.index if step.half is None else (step.index, step.half)
    return {step.merge: tuple(_steps(branch) for branch in step.branches)}
