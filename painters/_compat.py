"""Every private interface of another library that painters relies on, in one place.

The functions below are the only code of painters that names a private attribute or module of torch, transformers,
accelerate or lm-eval. What cannot be a function (a method that a subclass overrides, the modelling file of an export,
which does not know painters) is in `ELSEWHERE`. All were seen to work on the versions in `SEEN`.
`tests/project/test_compat.py` tries each on the installed versions, and finds private names that are used elsewhere.

Importing this module loads none of these libraries.
"""

from __future__ import annotations

import contextlib
from argparse import Namespace
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = [
    "ELSEWHERE",
    "SEEN",
    "accelerate_hook",
    "attention_implementation",
    "auto_classes",
    "buffers",
    "children",
    "commit_hash",
    "forward_hooks",
    "has_adapters",
    "is_compiled",
    "is_in_backward",
    "is_in_checkpoint",
    "lm_eval_arguments",
    "lm_eval_config",
    "lm_eval_pairs",
    "lm_eval_value",
    "model_from_config",
    "name_or_path",
    "overrides_generation",
    "recorded_hidden_states",
    "recorded_routers",
    "set_attention_implementation",
    "set_name_or_path",
    "set_origin",
    "uncompiled",
    "without_gguf_bar",
]

SEEN: Final = {
    "torch": "2.13.0",
    "transformers": "5.22 to 5.24",
    "accelerate": "1.15.0",
    "lm_eval": "0.4.13",
}
"""Library -> the versions on which everything here was seen to work."""

ELSEWHERE: Final = {
    "_loglikelihood_tokens": "harness: overridden in HFLM's subclass. lm-eval would score without shared batches.",
    "_model_call": "harness: overridden in HFLM's subclass. Plans would not be laid on, which a test would show.",
    "_model_generate": "harness: overridden in HFLM's subclass. Generation would run lm-eval's own loop.",
    "_valid_auto_compile_criteria": "export: overridden in exported models. `generate` would compile stand-ins.",
    "_keep_in_fp32_modules_strict": "export/code.py: in exported models. Mixed number types would be refused.",
    "_modules": "export/modeling.py: exported models find the layers there. Loading one raises an error.",
}
"""Private names that other modules must use themselves: name -> where, and what happens if the name changes."""


# --------------------------------------------------------------------------------------------------------------- torch


def forward_hooks(module: nn.Module) -> tuple[MutableMapping[int, Any], MutableMapping[int, Any]]:
    """Return the module's hooks before and after its forward, by their numbers; changes take effect.

    Relies on `torch.nn.Module._forward_pre_hooks` and `_forward_hooks`. If they change, the check before a model is
    first operated on runs with the user's hooks on.
    """
    return module._forward_pre_hooks, module._forward_hooks


def children(module: nn.Module) -> dict[str, nn.Module | None]:
    """Return the module's children by name, also those that are None; changes take effect.

    Relies on `torch.nn.Module._modules`. `named_children` leaves out None and modules that it has met, and is slower.
    If it changes, no stack of layers is found.
    """
    return module._modules


def buffers(module: nn.Module) -> dict[str, Tensor | None]:
    """Return the module's own buffers by name; changes take effect.

    Relies on `torch.nn.Module._buffers`. If it changes, the check before a model is first operated on may leave buffers
    changed.
    """
    return module._buffers


def uncompiled(module: nn.Module) -> nn.Module | None:
    """Return the module that `torch.compile(module)` wrapped; None if this is no such wrapper.

    Relies on `torch._dynamo.OptimizedModule` keeping it under `_orig_mod`. If that changes, compiled layers go by the
    wrapper's class, and halves of them are refused.
    """
    return module._modules.get("_orig_mod")


def is_compiled(module: nn.Module) -> bool:
    """Return whether torch compiles the module, by `torch.compile(module)` or `module.compile()`.

    Relies on `_orig_mod` and on `torch.nn.Module._compiled_call_impl`. If they change, a model that is compiled as a
    whole is not refused: it is compiled anew for each plan.
    """
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None


def is_in_backward() -> bool:
    """Return whether this thread is within a backward pass, where checkpoints run forwards again.

    Relies on `torch._C._current_graph_task_id`, which is -1 outside. If it changes, a message about a checkpoint names
    another reason.
    """
    import torch

    return bool(torch._C._current_graph_task_id() != -1)


def is_in_checkpoint() -> bool:
    """Return whether a checkpoint with `use_reentrant=False` is active, which runs its forward again in backward.

    Relies on `torch._C._autograd._top_saved_tensors_default_hooks` and the name `_checkpoint_hook` of what torch pushes
    there. If they change, a checkpoint around the whole model whose backward comes after the context is not refused.
    """
    import torch

    top = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    hooks = None if top is None else top(False)
    return hooks is not None and getattr(hooks[0], "__qualname__", "").startswith("_checkpoint_hook.")


# -------------------------------------------------------------------------------------------------------- transformers


def name_or_path(config: Any) -> str:
    """Return the name or folder that a configuration was read from, or "".

    Relies on `PreTrainedConfig._name_or_path`. If it changes, messages call the model by its class.
    """
    return getattr(config, "_name_or_path", "") or ""


def set_name_or_path(config: Any, name: str) -> None:
    """Set the name or folder that `name_or_path` returns."""
    config._name_or_path = name


def commit_hash(config: Any) -> str | None:
    """Return the commit on the hub that a configuration was read from; None if it is from elsewhere.

    Relies on `PreTrainedConfig._commit_hash`. If it changes, records lack their revision.
    """
    commit = getattr(config, "_commit_hash", None)
    return commit if isinstance(commit, str) else None


def set_origin(model: Any, name: str, revision: str) -> None:
    """Give a model the name and the revision that records hold.

    Relies on `PreTrainedConfig._commit_hash`. If it changes, records lack the digest of a GGUF file.
    """
    model.name_or_path = name
    set_name_or_path(model.config, name)
    model.config._commit_hash = revision


def attention_implementation(config: Any) -> str | None:
    """Return the name of the attention that a model with this configuration uses, such as "sdpa".

    Relies on `PreTrainedConfig._attn_implementation`. If it changes, requests are not scored as token trees, records
    lack the name, and exports may be compared under another attention, which refuses them.
    """
    name: str | None = getattr(config, "_attn_implementation", None)
    return name


def set_attention_implementation(config: Any, name: str) -> None:
    """Set the attention of this configuration alone, not of the configurations within it.

    Relies on `PreTrainedConfig._attn_implementation_internal`, behind the property that would set all of them. If it
    changes, the trial of token trees fails and requests are scored without them.
    """
    config._attn_implementation_internal = name


def model_from_config(model_class: Any, config: Any, **options: Any) -> Any:
    """Return a model of this very class with random weights; the auto classes can only make the classes that they know.

    Relies on `PreTrainedModel._from_config`. If it changes, `painters models --inspect` and exports raise an error.
    """
    return model_class._from_config(config, **options)


def has_adapters(model: Any) -> bool:
    """Return whether transformers itself has put adapters of peft on the model.

    Relies on `_hf_peft_config_loaded`. If it changes, an export of such a model fails later, when it is compared.
    """
    return bool(getattr(model, "_hf_peft_config_loaded", False))


def auto_classes(model_type: str) -> dict[str, tuple[str, ...]]:
    """Return the auto classes that load this model type: name -> the names of the classes that they make.

    Relies on `_model_mapping` of the auto classes and of the mappings within. If they change, a model card names the
    model's own class in place of an auto class.
    """
    from transformers.models.auto import modeling_auto

    found = {}
    for auto_name in (name for name in vars(modeling_auto) if name.startswith("AutoModel")):
        mapping = getattr(getattr(modeling_auto, auto_name), "_model_mapping", None)
        names = getattr(mapping, "_model_mapping", {}).get(model_type, ())
        found[auto_name] = (names,) if isinstance(names, str) else tuple(names)
    return found


def overrides_generation(model_class: type[Any]) -> bool:
    """Return whether a class of models prepares or runs generation in a way of its own.

    Relies on `GenerationMixin._sample` and `_prepare_cache_for_generation`. If they change, this raises AttributeError.
    """
    from transformers import GenerationMixin

    methods = ("generate", "_sample", "prepare_inputs_for_generation", "_prepare_cache_for_generation")
    return any(getattr(model_class, name) is not getattr(GenerationMixin, name) for name in methods)


def recorded_hidden_states(model_class: type[Any]) -> Any:
    """Return what a class of models names as the source of its hidden states: a class, a spec, a list, or None.

    Relies on `PreTrainedModel._can_record_outputs`. If it changes, stacks of layers are found by general rules alone.
    """
    return (getattr(model_class, "_can_record_outputs", None) or {}).get("hidden_states")


@contextlib.contextmanager
def without_gguf_bar() -> Iterator[None]:
    """Hide the progress bar of transformers' GGUF reader, which its switch for bars does not reach.

    Relies on the name `tqdm` in `transformers.modeling_gguf_pytorch_utils`. If it changes, the bar is shown.
    """
    from transformers import modeling_gguf_pytorch_utils as reader

    bar = getattr(reader, "tqdm", None)
    if bar is None:
        yield
        return
    reader.tqdm = partial(bar, disable=True)
    try:
        yield
    finally:
        reader.tqdm = bar


def recorded_routers(model_class: type[Any]) -> tuple[type[Any], ...]:
    """Return the classes of modules that give a class of models its router logits; none without experts.

    Relies on `PreTrainedModel._can_record_outputs`. If it changes, a plan without a sparse layer raises an obscure
    error of transformers where router logits are asked for.
    """
    specs = (getattr(model_class, "_can_record_outputs", None) or {}).get("router_logits")
    targets = [getattr(spec, "target_class", spec) for spec in (specs if isinstance(specs, list) else [specs])]
    return tuple(target for target in targets if isinstance(target, type))


# ---------------------------------------------------------------------------------------------------------- accelerate


def accelerate_hook(module: nn.Module) -> Any:
    """Return the hook with which accelerate has placed the module on a device or disk; None if it has not.

    Relies on `_hf_hook`, with its methods `pre_forward` and `post_forward`. If it changes, a half of a layer that was
    placed so raises an error about devices.
    """
    return getattr(module, "_hf_hook", None)


# ------------------------------------------------------------------------------------------------------------- lm-eval


def lm_eval_arguments(arguments: Sequence[str], more_help: str = "") -> Namespace:
    """Parse arguments as the command `lm-eval` does; `func` of the result runs the command with the result.

    The help of lm-eval and that of its command `run` begin with `more_help`, after the usage.

    Relies on `lm_eval._cli.harness.HarnessCLI` with `_parser` and `_subparsers`: lm-eval has no public way to run its
    command line with arguments other than `sys.argv`. If they change, `painters lm-eval` raises an error.
    """
    from lm_eval._cli.harness import HarnessCLI

    command_line, arguments = HarnessCLI(), list(arguments)
    for parser in (command_line._parser, command_line._subparsers.choices["run"]):
        parser.description = "\n\n".join(filter(None, (more_help, parser.description)))
    # As `HarnessCLI.parse_args` does: "run" goes without saying, and prints its help where nothing follows it.
    if len(arguments) > 1 and arguments[0] not in command_line._subparsers.choices:
        arguments = ["run", *arguments]
    elif arguments == ["run"]:
        arguments = ["run", "--help"]
    parsed: Namespace = command_line._parser.parse_args(arguments)
    return parsed


def lm_eval_pairs(text: str) -> list[str]:
    """Split `a=1,b=[2,3]` at the commas outside of brackets, as lm-eval does with `--model_args`.

    Relies on `lm_eval._cli.utils.split_top_level`. If it changes, `painters lm-eval` raises ImportError.
    """
    from lm_eval._cli.utils import split_top_level

    split: Callable[[str], list[str]] = split_top_level
    return split(text)


def lm_eval_value(text: str) -> Any:
    """Read a value on lm-eval's command line as lm-eval does: a number, True, None or a text.

    Relies on `lm_eval._cli.utils.handle_cli_value_string`. If it changes, `painters lm-eval` raises ImportError.
    """
    from lm_eval._cli.utils import handle_cli_value_string

    return handle_cli_value_string(text)


def lm_eval_config(path: Path | str, *, resolve: bool = True) -> dict[str, Any]:
    """Read the YAML file of a task of lm-eval, with what it includes and the functions that it names.

    `resolve=False` reads the names of the functions alone, and imports nothing.

    Relies on `lm_eval.tasks._yaml_loader.load_yaml`. If it changes, tasks with documents of one's own raise
    ImportError.
    """
    from lm_eval.tasks._yaml_loader import load_yaml

    config: dict[str, Any] = load_yaml(path, resolve_func=resolve)
    return config
