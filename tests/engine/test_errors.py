"""What the engine refuses, and that its messages say what was found and what to do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support import reference
from support.models import make_model, shared_model, tokens
from support.reference import assert_same
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, BloomConfig

from painters import Plan, PlanError, surgery
from painters.engine import LayerStack, Program, SurgeryError


def test_a_layer_that_is_not_there() -> None:
    with pytest.raises(PlanError, match=r"plan runs layer 13, but LlamaForCausalLM has 7 layers \(0 to 6\)"):
        surgery(shared_model("llama", 7), "0-6 13").__enter__()


def test_an_unknown_kind_of_cache_slots() -> None:
    with pytest.raises(ValueError, match=r"^kv is 'mean': it must be one of 'exact', 'averaged'$"):
        surgery(shared_model("llama", 7), "0-6", kv="mean").__enter__()  # type: ignore[arg-type]


def test_a_list_of_layers_is_named_once() -> None:
    with pytest.raises(ValueError, match=r"^stack='decoder' and path='h': both say which list .* meant, so give one$"):
        surgery(shared_model("llama", 7), "0-6", stack="decoder", path="h").__enter__()


def test_halves_of_layers_whose_halves_are_unknown() -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(BloomConfig(n_layer=2, hidden_size=32, n_head=4))
    with pytest.raises(SurgeryError) as refused:
        surgery(model, "0 1.mlp").__enter__()
    told, _, rest = str(refused.value).partition("(known: ")
    assert told == "plan runs 1.mlp of BloomForCausalLM, but the halves of its BloomBlock are not known "
    known, _, remedy = rest.partition("): ")
    assert remedy == "run whole layers"
    assert {"Llama", "GPT2", "Bert", "Gemma3"} <= set(known.split(", "))
    left = [name for name in known.split(", ") if name.endswith(("Layer", "Block", "Decoder"))]
    assert left == ["TransformerBlock"]  # of which nothing else would be left


STOPPED = (
    r"^LlamaForCausalLM: the forward ended without the plan, for its loop met 5 of the 7 layers at model\.layers: does "
    r"it run another list, or stop at config\.num_hidden_layers\?$"
)


def test_a_loop_that_stops_early() -> None:
    """`self.layers[: config.num_hidden_layers]` cuts the list without a word."""
    model, ids = make_model("llama", 7), tokens(2, 9)
    model.config.num_hidden_layers = 5
    with torch.inference_mode(), surgery(model, "6-0"):
        with pytest.raises(SurgeryError, match=STOPPED):
            model(ids)
        assert isinstance(model.model.layers[0], nn.Module)


def test_a_loop_that_ends_early_by_itself() -> None:
    class Early(nn.Module):
        config = SimpleNamespace()  # which says nothing of a depth

        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

        def forward(self, stream: Tensor) -> Tensor:
            return self.layers[1](self.layers[0](stream))

    with (
        surgery(model := Early(), "1 0 2", path="layers", check=False),
        pytest.raises(SurgeryError, match="the forward ended without the plan, for its loop met 2 of the 3 layers"),
    ):
        model(torch.zeros(1, 4))


def test_a_model_that_bypasses_the_list() -> None:
    class Bypass(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, ids: Tensor) -> Any:
            return self.inner.forward(ids)  # no hook is called

    model = Bypass(make_model("llama", 7, head="bare"))
    with (
        torch.inference_mode(),
        surgery(model, "6-0", check=False),
        pytest.raises(SurgeryError, match="the forward ended without the plan, for its loop met 0 of the 7"),
    ):
        model(tokens(2, 9))
    with (
        torch.inference_mode(),
        surgery(model, "6-0"),
        pytest.raises(SurgeryError, match=r"runs the layers at inner\.layers, but not in a loop of their LlamaModel"),
    ):
        model(tokens(2, 9))


REMOVED = (
    r"^LlamaForCausalLM: another tool removed the hooks that make it follow the plan, so it ran without the plan: use "
    r"that tool before or after, and not within the context$"
)


def test_hooks_that_another_tool_removes() -> None:
    model, ids = make_model("llama", 7), tokens(2, 9)

    def run_while_hooks_go() -> None:
        with surgery(model, "6-0"), torch.inference_mode():
            model.model._forward_hooks.clear()
            model.model._forward_pre_hooks.clear()
            model._forward_hooks.clear()
            model(ids)

    with pytest.raises(SurgeryError, match=REMOVED):
        run_while_hooks_go()
    with torch.inference_mode():
        assert_same(model(ids).logits, reference.logits("llama", model, Plan.identity(7), ids))


NO_CHAIN = (
    r"^Shifted: the loop over layers does not hand layer 1 what layer 0 returned: there is work between the layers, or "
    r"they return tuples \(and need a row in painters\.stack\.SPECIAL\)$"
)


def test_work_between_the_layers() -> None:
    model = make_model("llama", 7)

    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = model.model.layers

        def forward(self, stream: Tensor) -> Tensor:
            for layer in self.layers:
                stream = layer(stream) + 1
            return stream

    with (
        surgery(shifted := Shifted(), "0-6", path="layers"),
        pytest.raises(SurgeryError, match=NO_CHAIN),
    ):
        shifted(torch.zeros(1, 3, 32))


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ([0, 1, 0], "runs layer 0 again after the last one: shared layers are not supported"),
        ([1, 0], "came to layer 1 when 0 was due: it must keep the order"),
    ],
)
def test_loops_that_are_no_chain(order: list[int], message: str) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))

        def forward(self, stream: Tensor) -> Tensor:
            for index in order:
                stream = self.layers[index](stream)
            return stream

    with surgery(model := Odd(), "1 0", path="layers"), pytest.raises(SurgeryError, match=message):
        model(torch.zeros(1, 3, 4))


def test_a_stream_given_by_name() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))

        def forward(self, stream: Tensor) -> Tensor:
            for layer in self.layers:
                stream = layer(input=stream)
            return stream

    with (
        surgery(model := Named(), "1 0", path="layers"),
        pytest.raises(SurgeryError, match="passes the stream to layer 0 by name: not supported"),
    ):
        model(torch.zeros(1, 3, 4))


PAIRS = r"^Pairs: Pair returns a tuple, and a tensor was expected: it needs a row in painters\.stack\.SPECIAL$"


def test_layers_that_return_something_else() -> None:
    class Pair(nn.Linear):
        def forward(self, stream: Tensor) -> Any:
            return super().forward(stream), None

    class Pairs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([Pair(4, 4)])

        def forward(self, stream: Tensor) -> Tensor:
            return self.layers[0](stream)[0]

    with (
        surgery(model := Pairs(), "0", path="layers"),
        pytest.raises(SurgeryError, match=PAIRS),
    ):
        model(torch.zeros(1, 3, 4))


class Chain(nn.Module):
    """Layers of any kind, one after the other."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, stream: Tensor) -> Tensor:
        for layer in self.layers:
            stream = layer(stream)
        return stream


WIDER = (
    r"^Chain: the plan gives layer 2 at layers a stream of shape \(1, 3, 4\), and in the intact model it gets "
    r"\(1, 3, 8\): some layers of this stack change the shape, and a plan must leave those where they are$"
)


def test_layers_that_change_the_shape_stay_where_they_are() -> None:
    model, stream = Chain(nn.Linear(4, 4), nn.Linear(4, 8), nn.Linear(8, 8)), torch.ones(1, 3, 4)
    with surgery(model, "0 2 1", path="layers"), pytest.raises(SurgeryError, match=WIDER) as refused:
        model(stream)
    assert "shapes cannot be multiplied" in str(refused.value.__cause__)
    with surgery(model, "0 0 1 2 2", path="layers"):
        found = model(stream)
    first, second, third = model.layers
    assert_same(found, third(third(second(first(first(stream))))))


def test_what_layers_are_given_by_name_tells_their_shapes_too() -> None:
    class Scaled(nn.Linear):
        def forward(self, stream: Tensor, *, scale: float) -> Tensor:
            return super().forward(stream) * scale

    class Named(Chain):
        def forward(self, stream: Tensor) -> Tensor:
            for place, layer in enumerate(self.layers):
                stream = layer(stream, scale=2.0 + place)
            return stream

    model = Named(Scaled(4, 4), Scaled(4, 8), Scaled(8, 8))
    with surgery(model, "0 2 1", path="layers"), pytest.raises(SurgeryError, match=r"and in the intact model it gets"):
        model(torch.ones(1, 3, 4))


def test_so_does_what_they_are_given_by_position_and_return_in_pairs() -> None:
    def scaled(self: nn.Linear, stream: Tensor, scale: float) -> Any:
        return nn.functional.linear(stream, self.weight, self.bias) * scale, None

    class Pairs(Chain):
        def forward(self, stream: Tensor) -> Tensor:
            for place, layer in enumerate(self.layers):
                stream, _ = layer(stream, 2.0 + place)
            return stream

    named: Any = type("RoFormerLayer", (nn.Linear,), {"forward": scaled})
    model = Pairs(named(4, 4), named(4, 8), named(8, 8))
    with surgery(model, "0 2 1", path="layers"), pytest.raises(SurgeryError, match=r"and in the intact model it gets"):
        model(torch.ones(1, 3, 4))


class RoFormerLayer(nn.Linear):
    """By its name a layer that returns a pair, the stream first."""

    def forward(self, stream: Tensor, state: Tensor | None = None) -> Any:
        return super().forward(stream), stream if state is None else state + stream


class Carrying(nn.Module):
    """Hands the second of what a layer returned on to the next one."""

    def __init__(self, by_name: bool, num_layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(RoFormerLayer(4, 4) for _ in range(num_layers))
        self.by_name = by_name

    def forward(self, stream: Tensor) -> Tensor:
        state: Any = stream * 2
        for layer in self.layers:
            stream, state = layer(stream, state=state) if self.by_name else layer(stream, state)
        return stream


@pytest.mark.parametrize("num_layers", [2, 3])
@pytest.mark.parametrize("by_name", [False, True])
def test_a_state_that_is_handed_on(by_name: bool, num_layers: int) -> None:
    model = Carrying(by_name, num_layers)
    with (
        surgery(model, Plan.identity(num_layers), path="layers", check=False),
        pytest.raises(
            SurgeryError,
            match=r"^Carrying: the layers at layers hand a state besides the stream on to the next: they run only in "
            r"their own order$",
        ),
    ):
        model(torch.ones(1, 3, 4))


def test_what_all_layers_are_given_is_no_state() -> None:
    class Named(Carrying):
        def forward(self, stream: Tensor) -> Tensor:
            for layer in self.layers:
                stream, _ = layer(stream, state=torch.ones(4))
            return stream

    model, stream = Named(True, 2), torch.ones(1, 3, 4)
    with surgery(model, "1 0", path="layers"):
        found = model(stream)
    first, second = model.layers
    assert_same(found, first(second(stream)[0])[0])


class Pairwise(nn.Module):
    """Reads the first of what its layers return, and hands them something that is no Cache of transformers."""

    def __init__(self, *layers: nn.Module, given: Any = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.given = given

    def forward(self, stream: Tensor) -> Tensor:
        for layer in self.layers:
            stream = layer(stream, self.given)[0]
        return stream


def test_layers_that_return_pairs_run_by_their_first() -> None:
    first, second = RoFormerLayer(4, 4), RoFormerLayer(4, 4)
    model, stream = Pairwise(first, second), torch.ones(1, 3, 4)
    with surgery(model, "1 0 1", path="layers"):
        found = model(stream)
    assert_same(found, second(first(second(stream)[0])[0])[0])
    first.forward = lambda stream, state=None: stream  # type: ignore[method-assign]
    with (
        surgery(model, "1 0", path="layers", check=False),
        pytest.raises(
            SurgeryError, match=r"RoFormerLayer returns a Tensor, and a tuple of 2 was expected: it needs a row"
        ),
    ):
        model(stream)


class PagedCache:
    """What continuous batching gives its layers."""


def test_a_cache_that_is_none_of_transformers() -> None:
    """Plans that need slots of their own are refused with it, others are not."""
    named = type("RoFormerLayer", (RoFormerLayer,), {"forward": lambda self, stream, given: (stream * 2, None)})
    model, stream = Pairwise(named(4, 4), named(4, 4), given=PagedCache()), torch.ones(1, 3, 4)
    with surgery(model, "1 0", path="layers"):
        assert_same(model(stream), stream * 4)
    with (
        surgery(model, "0 1 0", path="layers"),
        pytest.raises(
            SurgeryError,
            match=r'^the model was given a PagedCache, in which the plan "0-1 0" \(kv=\'exact\'\) cannot place slots, '
            r"as it has to where a layer runs more than once or kv='averaged': use `generate` with a DynamicCache, or "
            r"use_cache=False$",
        ),
    ):
        model(stream)
    for index, layer in enumerate(model.layers):
        layer.layer_idx = index
    with (
        surgery(model, "{0 1}", "averaged", path="layers"),
        pytest.raises(
            SurgeryError, match=r"a PagedCache, in which the plan \"\{0-1\}\" \(kv='averaged'\) cannot place slots"
        ),
    ):
        model(stream)


def test_halves_that_keep_nothing_may_run_again_with_such_a_cache() -> None:
    stack, stream = LayerStack.find(shared_model("llama", 7)), torch.ones(1, 3, 4)
    given: Any = SimpleNamespace(
        stream=stream, cache=None, foreign_cache=PagedCache(), run=lambda index, stream, half: stream * 2
    )
    assert_same(Program(Plan.parse("0.attn 0.mlp 0.mlp"), stack).execute(given), stream * 8)
    with pytest.raises(SurgeryError, match="a PagedCache, in which"):
        Program(Plan.parse("0.attn 0.attn"), stack).execute(given)


EARLY = (
    r"^LlamaForCausalLM: config\.num_hidden_layers was set to 5 of the 7 layers, as assistant_early_exit does, and a "
    r"plan does not end early: pass prompt_lookup_num_tokens or an assistant_model$"
)


def test_a_depth_that_is_set_for_one_call() -> None:
    """It is set back, as it would be if the call had not failed."""
    model, ids = make_model("llama", 7), tokens(2, 9)
    with torch.inference_mode(), surgery(model, "6-0"):
        model.config.num_hidden_layers = 5
        with pytest.raises(SurgeryError, match=EARLY):
            model(ids)
        assert model.config.num_hidden_layers == 7
        model(ids)


def test_a_list_inside_a_module_that_is_never_called() -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleDict({"h": nn.ModuleList(nn.Linear(4, 4) for _ in range(2))})

        def forward(self, stream: Tensor) -> Tensor:
            for layer in self.parts["h"]:
                stream = layer(stream)
            return stream

    model, stream = Nested(), torch.ones(1, 3, 4)
    first, second = model.parts["h"]
    with surgery(model, "1 0", path="parts.h"):
        assert_same(model(stream), first(second(stream)))


class Fussy(nn.Module):
    """A layer that does not like what it has seen before."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def forward(self, stream: Tensor) -> Tensor:
        self.seen += 1
        if self.seen > 1:
            raise ValueError(f"seen {self.seen} times")
        return stream + 1


def test_a_layers_own_error_is_the_one_to_see() -> None:
    """Where the shapes are right, and where the layers fail on what the model gives them too."""
    model = Chain(nn.Linear(4, 4), Fussy())
    with surgery(model, "0 1 1", path="layers", check=False), pytest.raises(ValueError, match=r"^seen 2 times$"):
        model(torch.ones(1, 3, 4))

    class Narrow(nn.Linear):
        def forward(self, stream: Tensor) -> Tensor:
            if stream.mean() > 1:
                raise ValueError("too large")
            return super().forward(stream)

    model = Chain(nn.Identity(), Narrow(4, 4))
    model.layers[1].weight.data.fill_(1)
    with surgery(model, "1 1", path="layers", check=False), pytest.raises(ValueError, match=r"^too large$"):
        model(torch.ones(1, 3, 4))
