"""What leaves the model within a context, or looks at it: files, pickles, copies, and the hooks of users."""

from __future__ import annotations

import copy
import io
import multiprocessing
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from support.models import make_model, tokens
from torch import Tensor, nn
from transformers import LlamaForCausalLM, Trainer, TrainingArguments

from painters import SurgeryError, surgery
from painters.errors import PaintersWarning

IDS = tokens(2, 7)
PLAN = "0 {1-2} 3"


@pytest.fixture
def model() -> Any:
    return make_model("llama", 4)


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        result: Tensor = model(IDS).logits
    return result


def test_save_pretrained_says_once_that_it_writes_the_intact_model(model: Any, tmp_path: Path) -> None:
    intact = logits(model)
    with surgery(model, "0-1 3"):
        with pytest.warns(PaintersWarning, match=r'the plan "0-1 3".*painters\.export') as caught:
            model.save_pretrained(tmp_path / "first")
        assert caught[0].filename == __file__
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model.save_pretrained(tmp_path / "second")
        with surgery(model, "3-0"), pytest.warns(PaintersWarning, match='"3-0"'):
            model.save_pretrained(tmp_path / "inner")
    for name in ("first", "second", "inner"):
        assert torch.equal(logits(LlamaForCausalLM.from_pretrained(tmp_path / name).eval()), intact)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.save_pretrained(tmp_path / "outside")
        with surgery(model, "0-3"):  # the identity: the file is what was run
            model.save_pretrained(tmp_path / "identity")
    assert "save_pretrained" not in vars(model)


def test_a_trainer_s_checkpoints(model: Any, tmp_path: Path) -> None:
    arguments = TrainingArguments(
        str(tmp_path), max_steps=2, save_steps=1, per_device_train_batch_size=1, report_to=[], use_cpu=True
    )
    documents = [{"input_ids": row, "labels": row} for row in IDS]
    with surgery(model, "0-1 3"), pytest.warns(PaintersWarning, match="intact model") as caught:
        Trainer(model, arguments, train_dataset=documents).train()
    assert sum(issubclass(warning.category, PaintersWarning) for warning in caught) == 1
    found = LlamaForCausalLM.from_pretrained(tmp_path / "checkpoint-2").eval()
    assert torch.equal(logits(found), logits(model.eval()))


def test_a_model_under_a_plan_is_not_pickled(model: Any, tmp_path: Path) -> None:
    intact = logits(model)
    with surgery(model, PLAN):
        for save in (pickle.dumps, lambda it: torch.save(it, tmp_path / "model.pt"), in_another_process):
            with pytest.raises(SurgeryError, match="cannot be pickled while it follows a plan"):
                save(model)
        state = io.BytesIO()
        torch.save(model.state_dict(), state)
        twin = copy.deepcopy(model)
    with pytest.raises(SurgeryError, match="nor can a copy"):
        pickle.dumps(twin)
    fresh = make_model("llama", 4)
    state.seek(0)
    fresh.load_state_dict(torch.load(state))
    assert torch.equal(logits(fresh), intact)
    assert torch.equal(logits(pickle.loads(pickle.dumps(model))), intact)


def in_another_process(model: Any) -> None:
    multiprocessing.get_context("spawn").Process(target=logits, args=(model,)).start()


def test_a_copy_follows_the_plan_and_a_copy_of_its_layers_does_not(model: Any) -> None:
    intact = logits(model)
    with surgery(model, PLAN):
        expected = logits(model)
        twin, layers = copy.deepcopy(model), copy.deepcopy(model.model.layers)
        assert type(layers) is type(twin.model.layers) is nn.ModuleList
        with surgery(model, "3-0"):
            assert torch.equal(logits(twin), expected)
    assert torch.equal(logits(twin), expected)
    assert torch.equal(logits(model), intact)
    model.model.layers = layers
    assert torch.equal(logits(model), intact)
    with surgery(twin, "3-0"):
        under = logits(twin)
    with surgery(model, "3-0"):
        assert torch.equal(logits(model), under)


WHERE = ("owner before", "owner after", "layer", "embedding", "head", "owner before, prepended", "model before")


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("registered", ["before", "within"])
def test_hooks_of_users_meet_the_real_list(model: Any, where: str, registered: str) -> None:
    seen: list[str] = []

    def look(*_: Any) -> None:
        layers = model.model.layers
        if not seen:
            seen.append("called")
        assert isinstance(layers, nn.ModuleList)
        assert len(layers) == 4
        assert all(isinstance(layer, nn.Module) for layer in layers)
        assert layers[3] is dict(layers.named_children())["3"]
        assert layers[-1].self_attn.layer_idx == 3
        assert len(layers[1:3]) == 2
        assert [*layers[1:3]] == [layers[1], layers[2]]
        assert layers[2] in list(layers)

    def register() -> None:
        owner = model.model
        {
            "owner before": lambda: owner.register_forward_pre_hook(look),
            "owner before, prepended": lambda: owner.register_forward_pre_hook(look, prepend=True),
            "owner after": lambda: owner.register_forward_hook(look),
            "layer": lambda: [layer.register_forward_hook(look) for layer in owner.layers],
            "embedding": lambda: owner.norm.register_forward_hook(lambda *_: None),
            "head": lambda: model.lm_head.register_forward_pre_hook(look),
            "model before": lambda: model.register_forward_pre_hook(look),
        }[where]()

    if registered == "before":
        register()
    with surgery(model, PLAN, check=False):
        if registered == "within":
            register()
        for _ in range(2):
            logits(model)
    assert seen == ([] if where == "embedding" else ["called"])


def test_a_pre_hook_of_a_model_that_holds_the_layers_itself() -> None:
    """There the hook comes behind painters' own once, and meets recorders with the attributes of the layers."""
    model, seen = make_model("llama", 4, head="bare"), []
    with surgery(model, PLAN):
        model.register_forward_pre_hook(lambda module, _: seen.append(module.layers[3]))
        with torch.no_grad():
            for _ in range(2):
                model(IDS)
    assert seen[0].self_attn is seen[1].self_attn
    assert seen[1] is model.layers[3]
