"""Private interfaces of other libraries are used in one place, and are there in the installed versions."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from support.models import make_model
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import BertLMHeadModel, LlamaForCausalLM, MixtralModel, WhisperForConditionalGeneration

from painters import _compat, tasks

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "painters"
# Texts that begin with an underscore and name no attribute: a variable of the shell, and a key in transformers' JSON.
TEXTS = {"_PAINTERS_COMPLETE", "_from_model_config"}


def own_names() -> set[str]:
    """Names that painters itself defines: functions, classes, fields, attributes, variables."""
    names = set()
    for path in PACKAGE.rglob("*.py"):
        if path.name == "_compat.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                if isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}:
                    names.add(node.attr)
            elif isinstance(node, ast.ClassDef):
                names.add(node.name)
    return names - set(_compat.ELSEWHERE)


def private_names(path: Path, own: set[str]) -> Iterator[str]:
    """Private names in a module that painters does not define: attributes, texts such as getattr's, imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            names = [node.attr]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            names = [node.value]
        elif isinstance(node, ast.ImportFrom) and not (node.module or "painters").startswith("painters"):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        else:
            continue
        for name in names:
            if re.match("_[A-Za-z]", name) and name not in own | TEXTS:
                yield name


def test_private_names_of_other_libraries_are_in_one_place() -> None:
    own = own_names()
    paths = [path for path in PACKAGE.rglob("*.py") if path.name != "_compat.py" and "nano" not in path.parts]
    used = {name: path for path in paths for name in private_names(path, own)}
    assert {name: path for name, path in used.items() if name not in _compat.ELSEWHERE} == {}
    overridden = {
        node.name
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name in _compat.ELSEWHERE
    }
    templates = (PACKAGE / "export" / "code.py").read_text()
    assert all(name in used or name in overridden or name in templates for name in _compat.ELSEWHERE)


def test_a_private_name_elsewhere_would_be_found(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    for code, name in (
        ("module._backward_hooks", "_backward_hooks"),
        ("getattr(module, '_forward_hooks')", "_forward_hooks"),
        ("from torch._dynamo import config", "_dynamo"),
    ):
        path.write_text(code)
        assert list(private_names(path, own_names())) == [name]


def test_no_mock_and_no_assignment_to_the_arguments_of_the_process() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert "mock" not in ast.unparse(node), path
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                assert ast.unparse(node) != "sys.argv", path


def test_it_was_seen_on_what_is_installed() -> None:
    for library, versions in _compat.SEEN.items():
        first, _, last = versions.partition(" to ")
        installed = [int(part) for part in metadata.version(library).split("+")[0].split(".")]
        low, high = ([int(part) for part in text.split(".")] for text in (first, last or first))
        assert low <= installed[: len(low)], library
        assert installed[: len(high)] <= high, library


# ---------------------------------------------------------------------------------------------------- on the libraries


def test_torch() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    handle = module.register_forward_hook(lambda *_: None)
    before, after = _compat.forward_hooks(module)
    assert (len(before), len(after)) == (0, 1)
    handle.remove()
    assert not after
    assert list(_compat.children(module)) == ["0", "1"]
    assert set(_compat.buffers(module[1])) == {"running_mean", "running_var", "num_batches_tracked"}


def test_compiled_modules() -> None:
    module = nn.Linear(2, 2)
    assert _compat.uncompiled(module) is None
    assert not _compat.is_compiled(module)
    wrapper: Any = torch.compile(module, backend="eager")
    assert _compat.uncompiled(wrapper) is module
    assert _compat.is_compiled(wrapper)
    module.compile(backend="eager")
    assert _compat.uncompiled(module) is None
    assert _compat.is_compiled(module)


def test_backward_and_checkpoints() -> None:
    seen: list[tuple[bool, bool]] = []

    def forward(x: torch.Tensor) -> torch.Tensor:
        seen.append((_compat.is_in_backward(), _compat.is_in_checkpoint()))
        return (x * 2).exp()

    x = torch.ones(2, requires_grad=True)
    forward(x)
    checkpoint(forward, x, use_reentrant=False).sum().backward()  # type: ignore[no-untyped-call]
    assert seen[0] == (False, False)
    assert seen[1] == (False, True)
    assert [in_backward for in_backward, _ in seen[2:]] == [True]


def test_transformers() -> None:
    model = make_model("llama", 2)
    config = model.config
    _compat.set_name_or_path(config, "somewhere")
    assert _compat.name_or_path(config) == config.name_or_path == "somewhere"
    assert _compat.name_or_path(None) == ""
    assert _compat.commit_hash(config) is None
    config._commit_hash = "abc"
    assert _compat.commit_hash(config) == "abc"
    assert _compat.attention_implementation(config) == "sdpa"
    _compat.set_attention_implementation(config, "eager")
    assert _compat.attention_implementation(config) == "eager"
    made = _compat.model_from_config(LlamaForCausalLM, config, attn_implementation="sdpa")
    assert type(made) is LlamaForCausalLM
    assert _compat.attention_implementation(made.config) == "sdpa"
    assert not _compat.has_adapters(model)


def test_adapters() -> None:
    peft = pytest.importorskip("peft", reason="needs pip install -e '.[dev]'")
    model = make_model("llama", 2)
    model.add_adapter(peft.LoraConfig(r=2, target_modules=["q_proj"]))
    assert _compat.has_adapters(model)


def test_classes_of_models() -> None:
    found = _compat.auto_classes("llama")
    assert "LlamaForCausalLM" in found["AutoModelForCausalLM"]
    assert found["AutoModelForSpeechSeq2Seq"] == ()
    assert not _compat.overrides_generation(LlamaForCausalLM)
    assert _compat.overrides_generation(WhisperForConditionalGeneration)
    assert _compat.recorded_hidden_states(type(make_model("llama", 2).model)) is not None
    assert _compat.recorded_hidden_states(nn.Linear) is None
    assert [kind.__name__ for kind in _compat.recorded_routers(MixtralModel)] == ["MixtralTopKRouter"]
    assert _compat.recorded_routers(nn.Linear) == ()
    assert not _compat.overrides_generation(BertLMHeadModel)


def test_accelerate() -> None:
    hooks = pytest.importorskip("accelerate.hooks")
    module = nn.Linear(2, 2)
    assert _compat.accelerate_hook(module) is None
    hooks.add_hook_to_module(module, hooks.AlignDevicesHook(execution_device="cpu"))
    assert {"pre_forward", "post_forward"} <= set(dir(_compat.accelerate_hook(module)))


def test_lm_eval(tmp_path: Path) -> None:
    parsed = _compat.lm_eval_arguments(["--model", "painters", "--tasks", "nano_arc"])
    assert callable(parsed.func)
    assert parsed.model == "painters"
    assert _compat.lm_eval_pairs("a=1,b=[2,3]") == ["a=1", "b=[2,3]"]
    assert [_compat.lm_eval_value(text) for text in ("1", "0.5", "True", "text")] == [1, 0.5, True, "text"]
    assert _compat.lm_eval_config(tasks.bundled()["nano_arc"])["task"] == "nano_arc"
