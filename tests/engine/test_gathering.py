"""What a model's own loop gathers from its layers has an entry for every execution of the plan."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from architectures.check import ready
from architectures.gathered import outcome_of, seeded, series, unlike_loop, unlike_plain
from support.models import TOKENS, shared_model, tokens
from torch import Tensor, nn
from transformers import GPTJConfig, GPTJForCausalLM
from transformers.modeling_outputs import BaseModelOutput

from painters import Plan, surgery
from painters.engine import LayerStack, SurgeryError
from painters.engine.gathering import NOT_FOLLOWED, leaves_to_hooks

HIDDEN, ATTENTIONS = "output_hidden_states", "output_attentions"
TYPES = {
    "bloom": None,
    "falcon": None,
    "gptj": None,
    "gpt_neo": None,
    "mpt": None,
    "mamba": None,
    "deberta": None,
    "roformer": None,
    "codegen": None,
    "canine": None,
    "fsmt": "model.encoder.layers",  # transposes the hidden states and back again
    "led": "encoder",  # transposes the attentions that it gathers
    "longt5": "decoder",  # hands on what its first layer returns
    "rf_detr": "decoder.layers",  # stacks what all layers give, also unasked
}
"""Model types whose own loops gather what hooks of transformers gather in other models, with the stack to operate."""


def made(model_type: str) -> tuple[Any, dict[str, Any], LayerStack]:
    """A tiny model of this type whose attention gives its weights, inputs, and the stack of `TYPES`."""
    model, given = ready(model_type)
    if model_type != "rf_detr":
        model.set_attn_implementation("eager")
    return model, given, LayerStack.find(model, TYPES[model_type])


def some_plans(num_layers: int) -> dict[str, Plan]:
    last = num_layers - 1
    texts = (f"0-{last - 1}", f"{{0-{last}}}*2 0", f"{last}-0", f"0 {{0 ({last} 0)}}:sum {{0 {last}}}")
    return {text: Plan.parse(text) for text in texts}


@pytest.mark.parametrize("model_type", TYPES)
def test_every_execution_has_its_entry(model_type: str) -> None:
    """Under the identity all outputs are the model's own; under other plans the entries are those of a plain loop."""
    model, given, stack = made(model_type)
    plans = {text: plan for text, plan in some_plans(stack.num_layers).items() if plan.layer_runs != stack.num_layers}
    for option in (HIDDEN, ATTENTIONS):
        with torch.inference_mode():
            stock = seeded(model, given | {option: True})
        seen = outcome_of(model, stack, stack.path, given, option, stock, plans)
        assert seen == ("none" if (model_type, option) == ("mamba", ATTENTIONS) else "exact")


@pytest.mark.parametrize("model_type", ["bloom", "deberta", "falcon"])
def test_as_many_executions_as_layers_in_another_order(model_type: str) -> None:
    model, given, stack = made(model_type)
    plan = Plan.parse(f"{stack.num_layers - 1}-0")
    with torch.inference_mode():
        for option in (HIDDEN, ATTENTIONS):
            assert unlike_loop(model, stack, stack.path, plan, given, option) is None


@pytest.mark.parametrize("model_type", ["bloom", "falcon", "mamba", "deberta", "fsmt"])
def test_tuples_configurations_and_generation(model_type: str) -> None:
    """`return_dict=False`, a configuration that asks, and the steps of `generate` give the same."""
    model, given, stack = made(model_type)
    plan = Plan.parse("0 1*3" + (f" 2-{stack.num_layers - 1}" if stack.num_layers > 2 else ""))
    asked = given | {HIDDEN: True}
    with torch.inference_mode(), surgery(model, plan, stack=stack.path):
        named = seeded(model, asked)
        unnamed = seeded(model, asked | {"return_dict": False})
        assert unlike_plain(list(named.to_tuple()), list(unnamed)) is None
        inner = stack.owner.config if hasattr(stack.owner, "config") else model.config
        for config in (model.config, inner):
            config.output_hidden_states = True
        configured = seeded(model, given)
        for config in (model.config, inner):
            config.output_hidden_states = False
        assert unlike_plain(configured, named) is None
    if model_type in ("bloom", "falcon", "mamba"):
        ids = tokens(2, 5) % 90 + 3
        with torch.inference_mode(), surgery(model, plan):
            steps = model.generate(
                ids, max_new_tokens=3, do_sample=False, pad_token_id=0, output_hidden_states=True,
                return_dict_in_generate=True, eos_token_id=None,
            ).hidden_states  # fmt: skip
            whole = model(ids, output_hidden_states=True).hidden_states
        assert [len(step) for step in steps] == [len(whole)] * 3
        assert all(map(torch.equal, steps[0], whole))


def test_entries_of_halves() -> None:
    """The attention half of a layer counts among attentions; hidden states are those of whole layers."""
    config = GPTJConfig(n_embd=32, n_layer=3, n_head=2, rotary_dim=4, n_positions=16, **TOKENS)
    torch.manual_seed(0)
    model = GPTJForCausalLM(config).eval()
    model.set_attn_implementation("eager")
    ids = tokens(2, 5)
    with torch.inference_mode():
        whole = model(ids, output_attentions=True)
        with surgery(model, "0 {1.attn 1.mlp}:sum 2"):
            found = model(ids, output_attentions=True, output_hidden_states=True)
    assert len(found.attentions) == 3
    assert len(found.hidden_states) == 3
    torch.testing.assert_close(found.attentions, whole.attentions)


def test_gradients_flow_through_what_is_gathered() -> None:
    model, given, stack = made("bloom")
    model.requires_grad_(True)
    with surgery(model, "0 0 1"):
        hidden = model(**given, output_hidden_states=True).hidden_states
        hidden[1].sum().backward()
    assert stack.layers[0].mlp.dense_h_to_4h.weight.grad.abs().sum() > 0
    assert stack.layers[1].mlp.dense_h_to_4h.weight.grad is None


def test_nothing_is_gathered_where_nobody_asks() -> None:
    """Without the options no placeholder is made and no execution kept; the outputs are plain tensors."""
    model, given, _ = made("bloom")
    with torch.inference_mode(), surgery(model, "1 0 1"):
        output = model(**given)
        asked = model(**given, output_hidden_states=True, output_attentions=True)
    assert output.hidden_states is None
    assert output.attentions is None
    assert all(
        type(value) is Tensor for _, part in series(asked) for value in (part if type(part) is tuple else [part])
    )
    assert torch.equal(output.logits, asked.logits)


def test_layers_that_give_no_attentions_have_none_for_each_execution() -> None:
    config = GPTJConfig(n_embd=32, n_layer=3, n_head=2, rotary_dim=4, n_positions=16, **TOKENS)
    model = GPTJForCausalLM(config).eval()

    def without(module: nn.Module, args: Any, output: Any) -> Any:
        return output[0], None

    for layer in model.transformer.h:
        layer.register_forward_hook(without)
    with torch.inference_mode(), surgery(model, "0 1 2 1 0", check=False):
        assert len(model(tokens(2, 5), output_attentions=True).attentions) == 5


def test_a_stack_of_one_layer() -> None:
    model = GPTJForCausalLM(GPTJConfig(n_embd=32, n_layer=1, n_head=2, rotary_dim=4, n_positions=16, **TOKENS)).eval()
    streams: list[Tensor] = []
    with torch.inference_mode(), surgery(model, "0*3", observe=lambda i, stream: streams.append(stream)):
        hidden = model(tokens(2, 5), output_hidden_states=True).hidden_states
    assert len(hidden) == 1 + 3
    assert all(map(torch.equal, hidden[:3], streams[-4:-1]))


class Weighing(nn.Module):
    """Gathers hidden states and computes with them in a way that no plan can follow."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

    def forward(self, stream: Tensor, output_hidden_states: bool = False) -> Any:
        states = [stream]
        for layer in self.layers:
            stream = layer(stream)
            states.append(stream)
        if not output_hidden_states:
            return BaseModelOutput(last_hidden_state=stream)
        return BaseModelOutput(last_hidden_state=stream, hidden_states=(states[1] + states[2], *states[:1]))


@pytest.mark.parametrize("check", [True, False])
def test_what_is_computed_of_several_layers_is_refused_where_it_is_asked_for(check: bool) -> None:
    model, stream_in = Weighing(), torch.ones(1, 2, 4)
    for plan in ("0-2", "0 2"):
        with torch.inference_mode(), surgery(model, plan, path="layers", check=check):
            assert torch.equal(model(stream_in)[0], torch.stack([model(stream_in)[0]])[0])
            with pytest.raises(SurgeryError, match="use `observe` of `surgery` for the streams"):
                model(stream_in, output_hidden_states=True)


class Doubling(Weighing):
    """Gathers something else than what its layers return."""

    def forward(self, stream: Tensor, output_hidden_states: bool = False) -> Any:
        states = (stream,)
        for i, layer in enumerate(self.layers):
            stream = layer(stream)
            states += ((stream * (i + 1)) if i else stream,)
        return BaseModelOutput(last_hidden_state=stream, hidden_states=states if output_hidden_states else None)


def test_entries_that_depend_on_the_layer_hold_in_its_own_order_alone() -> None:
    model, stream_in = Doubling(), torch.ones(1, 2, 4)
    with torch.inference_mode():
        plain = model(stream_in, output_hidden_states=True).hidden_states
        with surgery(model, "0-2", path="layers"):
            assert all(map(torch.equal, model(stream_in, output_hidden_states=True).hidden_states, plain))
        with surgery(model, "0 2", path="layers"), pytest.raises(SurgeryError, match="leave out output_hidden_states"):
            model(stream_in, output_hidden_states=True)


class Forgetful(Weighing):
    """Gathers with another list than the first time that it is called."""

    def forward(self, stream: Tensor, output_hidden_states: bool = False) -> Any:
        states = (stream,)
        for layer in self.layers:
            stream = layer(stream)
            states += (stream if type(stream) is Tensor else stream * 0,)
        return BaseModelOutput(last_hidden_state=stream, hidden_states=states if output_hidden_states else None)


def test_the_check_compares_what_is_gathered() -> None:
    model, stream_in = Forgetful(), torch.ones(2, 2, 4)
    with torch.inference_mode(), surgery(model, "0 2", path="layers"):
        model(stream_in)
        assert model.layers in NOT_FOLLOWED
        with pytest.raises(SurgeryError, match="own loop gathers"):
            model(stream_in, output_hidden_states=True)
    with torch.inference_mode():
        assert len(model(stream_in, output_hidden_states=True).hidden_states) == 4  # outside it is what it was


def test_models_that_leave_it_to_hooks() -> None:
    for name, expected in {"llama": True, "bert": True}.items():
        model = shared_model(name, 7)
        assert leaves_to_hooks(model, LayerStack.find(model)) is expected
    model, _, stack = made("bloom")
    assert not leaves_to_hooks(model, stack)


def test_a_compiled_function_is_told_to_call_the_model_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    model, given, _ = made("bloom")
    with surgery(model, "0-1"):
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
        with pytest.raises(SurgeryError, match="call the model outside of torch"):
            model(**given, output_hidden_states=True)
