"""Before a model is first operated it is compared with itself, and models that no recorder sees through are refused."""

from __future__ import annotations

import copy
import gc
import math
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.models import make_model
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache
from transformers.modeling_outputs import BaseModelOutput

from painters import Plan, surgery
from painters.engine import SurgeryError
from painters.engine.verify import (
    _CHECKED,
    difference,
    first_row,
    is_compiled,
    is_noise,
    tensors,
    token_ids,
    without_caches,
)
from painters.sharing import Sharing


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, stream: Tensor) -> Tensor:
        return stream + torch.tanh(self.inner(stream))


class Honest(nn.Module):
    """Four layers in a chain."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(Layer() for _ in range(4))
        self.forwards = 0

    def forward(self, stream: Tensor) -> Tensor:
        self.forwards += 1
        for layer in self.layers:
            stream = layer(stream)
        return stream


class Hoarder(Honest):
    """Keeps what its layers gave, and its head reads that."""

    def forward(self, stream: Tensor) -> Tensor:
        kept = []
        for layer in self.layers:
            kept.append(stream)
            stream = layer(stream)
        return stream + torch.stack(kept).mean(0)


class InPlace(Honest):
    """Works on the stream between the layers without making a new one."""

    def forward(self, stream: Tensor) -> Tensor:
        stream = stream.clone()
        for layer in self.layers:
            stream = layer(stream)
            stream += 1
        return stream


class Gossip(nn.Module):
    """A layer that reads what the one before left behind."""

    def __init__(self, board: list[Tensor]) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.board = board

    def forward(self, stream: Tensor) -> Tensor:
        change = self.inner(stream + sum(self.board))
        self.board.append(change)
        del self.board[:-2]
        return stream + change


class Gossips(Honest):
    """Works as it is and under the identity, but a plan would move what the layers leave for each other."""

    def __init__(self) -> None:
        super().__init__()
        self.board: list[Tensor] = []
        self.layers = nn.ModuleList(Gossip(self.board) for _ in range(4))

    def forward(self, stream: Tensor) -> Tensor:
        self.board[:] = []
        for layer in self.layers:
            stream = layer(stream)
            self.board.append(stream)  # what the loop itself leaves is the untouched stream under a plan
        return stream


class Borrowers(Honest):
    """Layers that read what the one before left behind, and a loop that knows nothing of it."""

    def __init__(self) -> None:
        super().__init__()
        self.board: list[Tensor] = []
        self.layers = nn.ModuleList(Gossip(self.board) for _ in range(4))

    def forward(self, stream: Tensor) -> Tensor:
        self.board[:] = [stream * 0]
        for layer in self.layers:
            stream = layer(stream)
        return stream


class Swings(nn.Module):
    """A layer that reads which sign the stream had in the layer that ran before it."""

    def __init__(self, sign: list[Tensor]) -> None:
        super().__init__()
        self.sign = sign

    def forward(self, stream: Tensor) -> Tensor:
        found = stream + self.sign[0]
        self.sign[0] = stream.mean().sign()
        return found


class Swinging(Honest):
    """Right as long as the stream is positive."""

    def __init__(self) -> None:
        super().__init__()
        self.sign = [torch.ones(())]
        self.layers = nn.ModuleList(Swings(self.sign) for _ in range(4))


class Keeps(nn.Module):
    """A layer that reads the least sum of a stream since the forward began."""

    def __init__(self, least: list[Tensor]) -> None:
        super().__init__()
        self.least = least

    def forward(self, stream: Tensor) -> Tensor:
        self.least[0] = torch.minimum(self.least[0], stream.sum())
        return stream + 1e-4 * self.least[0]


class Keeping(Honest):
    """Right as long as the stream is positive, and else off by so little that it would be noise if it were not the same
    every time."""

    def __init__(self) -> None:
        super().__init__()
        self.least = [torch.zeros(())]
        self.layers = nn.ModuleList(Keeps(self.least) for _ in range(4))

    def forward(self, stream: Tensor) -> Tensor:
        self.least[0] = torch.zeros(())
        return super().forward(stream)


class Reader(Honest):
    """Reads what its second layer gave, as backbones read feature maps: by their number among all executions."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Tensor] = []

        def keep(layer: nn.Module, args: Any, output: Tensor) -> None:
            self.kept.append(output)

        keep.__module__ = "transformers.utils.output_capturing"
        for layer in self.layers:
            layer.register_forward_hook(keep)

    def forward(self, stream: Tensor) -> Tensor:
        self.kept.clear()
        return super().forward(stream) + self.kept[1]


class Encore(Honest):
    """Runs its first layer once more behind the loop, under another name."""

    def __init__(self) -> None:
        super().__init__()
        self.again = self.layers[0]

    def forward(self, stream: Tensor) -> Tensor:
        stream = super().forward(stream)
        return self.again(stream)


class SideBySide(Honest):
    """Layers that all read the same input; the last one counts."""

    def forward(self, stream: Tensor) -> Tensor:
        for layer in self.layers:
            out = layer(stream)
        return out


class Misread(Honest):
    """Its loop reads a part of what a layer returned that a recorder has not."""

    def forward(self, stream: Tensor) -> Tensor:
        for layer in self.layers:
            stream = layer(stream)
            assert stream.mean() != 1, "the stream that came in"
        return stream


X = torch.ones(2, 4)
DECEITFUL = [
    (Hoarder, "under the identity output is off by"),
    (InPlace, "under the identity output is off by"),
    (Gossips, "under the identity output is off by"),
    (Encore, "layer 0 runs 2 times where 1 are due"),
    (Borrowers, "layer 3 gives something else on the same stream once other layers have run"),
    (Swinging, "layer 3 gives something else on the same stream once other layers have run"),
    (Keeping, "layer 3 gives something else on the same stream once other layers have run"),
    (Reader, "given the last stream alone, what follows differs .*IndexError"),
    (Misread, "raises AssertionError: the stream that came in"),
]


@pytest.mark.parametrize(("kind", "seen"), DECEITFUL, ids=lambda v: getattr(v, "__name__", ""))
def test_a_deceitful_model_is_refused(kind: Callable[[], Honest], seen: str) -> None:
    model = kind()
    plain = model(X)
    with pytest.raises(SurgeryError, match=seen), surgery(model, "0-3", path="layers"):
        model(X)
    assert torch.equal(model(X), plain)


def test_a_refusal_says_what_was_compared_and_what_to_do() -> None:
    model = Encore()
    with pytest.raises(SurgeryError) as refused, surgery(model, "0-3", path="layers"):
        model(X)
    assert str(refused.value) == (
        "Encore: a plan over layers was compared with the plain forward on a tiny batch: layer 0 runs 2 times where 1 "
        "are due. The layers share more than the stream (a state handed on, keys of another layer, a layer that runs "
        "again, outputs kept one by one), so that no plan would mean anything: give the path of another list of layers"
    )


def test_layers_that_fail_out_of_their_order() -> None:
    class Ordered(nn.Module):
        def __init__(self, index: int, last: list[int]) -> None:
            super().__init__()
            self.index, self.last = index, last

        def forward(self, stream: Tensor) -> Tensor:
            if self.index not in (0, self.last[0], self.last[0] + 1):
                raise ValueError(f"{self.index} after {self.last[0]}")
            self.last[0] = self.index
            return stream * 2

    model = Honest()
    last = [0]
    model.layers = nn.ModuleList(Ordered(index, last) for index in range(4))
    with (
        pytest.raises(SurgeryError, match=r": layer 2 fails out of its order with ValueError: 2 after 3\. The"),
        surgery(model, "0-3", path="layers"),
    ):
        model(X)


def test_differences_in_words_and_numbers() -> None:
    one, nan = torch.ones(2), torch.tensor([1.0, float("nan")])
    assert difference({"a": one, "b": nan}, {"a": one.clone(), "b": nan.clone()}) is None
    assert difference({"a": one}, {"b": one, "c": one}) == ("it returns a instead of b, c", math.inf)
    assert difference({"a": one, "b": one}, {"c": one}) == ("it returns a, b instead of c", math.inf)
    assert difference({}, {"b": one}) == ("it returns nothing instead of b", math.inf)
    assert difference({"b": one}, {}) == ("it returns b instead of nothing", math.inf)
    assert difference({"a": one}, {"a": one[:1]}) == ("a is of shape (2,) instead of (1,)", math.inf)
    assert difference({"a": one, "b": one + 0.5}, {"a": one, "b": one}) == ("b is off by 5.0e-01", 0.5)
    assert difference({"a": one - 2}, {"a": one}) == ("a is off by 2.0e+00", 2.0)
    for found, plain in ((nan, one), (one, nan)):
        assert difference({"a": found}, {"a": plain}) == ("a is off by inf", math.inf)


@pytest.mark.parametrize(
    ("seen", "own", "largest", "noise"),
    [
        (8.0, 1.0, 1000.0, True),
        (8.1, 1.0, 1000.0, False),
        (0.9, 0.1, 1000.0, False),
        (2.0, 1.0, 100.0, True),
        (2.1, 1.0, 100.0, False),
        (1.0, None, 1000.0, False),
    ],
)
def test_noise_is_what_equal_forwards_differ_by(seen: float, own: float | None, largest: float, noise: bool) -> None:
    """Up to eight times that, and a fiftieth of the largest number."""
    values = {"small": torch.tensor([0.5]), "large": torch.tensor([1.0, -largest, math.nan])}
    assert is_noise(("", seen), None if own is None else ("", own), values) == noise
    assert not is_noise(("", 0.01), ("", 0.01), {})


def test_tensors_of_outputs_have_the_names_of_their_places() -> None:
    number, whole = torch.ones(1), torch.ones(1, dtype=torch.long)
    cache = {"past_key_values": (number,), "encoder_hidden_states": (number,), "attentions": number, "aux_loss": number}
    given = {"logits": number, "ids": whole, "deep": {"parts": [number, (number.to(torch.complex64),)]}, **cache}
    assert [name for name, _ in tensors(given)] == ["logits", "deep.parts.0", "deep.parts.1.0"]
    assert [name for name, _ in tensors((number, None, [number]))] == ["0", "2.0"]
    assert [name for name, _ in tensors(number)] == ["output"]
    assert list(tensors(whole)) == []


def test_the_batch_of_token_ids_is_one_that_the_model_takes() -> None:
    model = make_model("llama", 2)
    given = token_ids(model)
    assert given is not None
    assert given.keys() == {"input_ids", "use_cache"}
    assert given["use_cache"] is False
    assert given["input_ids"].tolist() == [list(range(3, 11)), list(range(11, 19))]
    model.config.vocab_size = 8
    small = token_ids(model)
    assert small is not None
    assert small["input_ids"].tolist() == [[3, 4, 5, 6, 7, 3, 4, 5], [6, 7, 3, 4, 5, 6, 7, 3]]
    model.config.vocab_size = 2
    smallest = token_ids(model)
    assert smallest is not None
    assert set(smallest["input_ids"].flatten().tolist()) == {1}


@pytest.mark.parametrize("kind", [Hoarder, InPlace, Gossips])
def test_without_the_check_the_number_would_be_wrong(kind: Callable[[], Honest]) -> None:
    model = kind()
    with surgery(model, "0-3", path="layers", check=False):
        found = model(X)
    assert not torch.allclose(found, model(X))


def test_a_list_that_somebody_else_runs_is_refused() -> None:
    class Outer(nn.Module):
        """Runs the layers of its tower itself, so that nothing happens in the tower's own forward."""

        def __init__(self) -> None:
            super().__init__()
            self.tower = Honest()

        def forward(self, stream: Tensor) -> Tensor:
            for layer in self.tower.layers:
                stream = layer(stream)
            return stream

    model = Outer()
    with (
        pytest.raises(SurgeryError, match=r"runs the layers at tower\.layers, but not in a loop of their Honest"),
        surgery(model, "0 3", stack="tower.layers"),
    ):
        model(X)


def test_layers_side_by_side_are_seen_without_the_check() -> None:
    model = SideBySide()
    with (
        pytest.raises(SurgeryError, match="does not hand layer 1 what layer 0 returned"),
        surgery(model, "0-3", path="layers", check=False),
    ):
        model(X)


def test_plans_that_share_are_checked_too() -> None:
    with pytest.raises(SurgeryError, match="under the identity output is off by"):
        list(Sharing(Hoarder().eval(), ["0-3", "0 2 3"], path="layers").run(stream=X))


def test_a_model_is_checked_once() -> None:
    model = Honest()
    with surgery(model, "0 1 3", path="layers"):
        model(X)
        assert model.forwards == 1 + 3
        model(X)
    with surgery(model, "3-0", path="layers"):
        model(X)
    assert model.forwards == 3 + 3
    model.layers = nn.ModuleList(model.layers)  # another list, say a shorter one
    with surgery(model, "3-0", path="layers"):
        model(X)
    assert model.forwards == 6 + 1 + 3


def test_a_layer_that_is_twice_in_the_list_may_run_twice() -> None:
    model = Honest()
    model.layers = nn.ModuleList([model.layers[0], model.layers[1], model.layers[0]])
    plain = model(X)
    with surgery(model, "0-2", path="layers"):
        assert torch.equal(model(X), plain)


def test_the_check_can_be_left_out() -> None:
    model = Honest()
    with surgery(model, "0 1 3", path="layers", check=False):
        model(X)
    assert model.forwards == 1


def test_a_checked_model_is_forgotten_with_its_last_reference() -> None:
    model = Honest()
    with surgery(model, "0-3", path="layers"):
        model(X)
    assert model in _CHECKED
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_an_inner_module_that_is_called_alone_is_checked() -> None:
    whole = nn.Sequential(Hoarder())
    with (
        pytest.raises(SurgeryError, match="under the identity output is off by"),
        surgery(whole, "0-3", path="0.layers"),
    ):
        whole[0](X)


def test_a_forward_that_does_not_run_the_stack_is_no_check() -> None:
    class Sometimes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tower = Hoarder()

        def forward(self, stream: Tensor, image: Tensor | None = None) -> Tensor:
            return stream if image is None else stream + self.tower(image)

    model = Sometimes()
    with surgery(model, "0-3", stack="tower.layers"):
        assert torch.equal(model(X), X)
        with pytest.raises(SurgeryError, match="under the identity output is off by"):
            model(X, image=X)


@pytest.mark.parametrize("name", ["llama", "bert", "gemma3"])
def test_a_model_of_token_ids_is_checked_on_entering(name: str) -> None:
    """Nothing of it shows: modes, random numbers, buffers, hooks and what hooks count."""
    model = make_model(name, 4)
    model.eval().get_submodule(next(path for path, _ in model.named_children())).train()
    modes = [module.training for module in model.modules()]
    calls: list[int] = []
    handle = model.register_forward_hook(lambda *_: calls.append(1))
    buffers = {key: (value, value.clone()) for key, value in model.named_buffers()}
    hooks = [dict(module._forward_hooks) for module in model.modules()]
    random = torch.get_rng_state()
    with surgery(model, Plan.identity(4)):
        assert model in _CHECKED
    assert calls == []
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in model.modules()] == modes
    assert [dict(module._forward_hooks) for module in model.modules()] == hooks
    for key, value in model.named_buffers():
        assert value is buffers[key][0]
        assert torch.equal(value, buffers[key][1])
    handle.remove()


def test_a_buffer_that_counts_forwards_is_set_back() -> None:
    class Counting(Honest):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, stream: Tensor) -> Tensor:
            self.seen += 1
            return super().forward(stream)

    model = Counting()
    with surgery(model, "0-3", path="layers"):
        model(X)
    assert model.seen.item() == 1


def test_inputs_of_all_kinds_are_cut_to_their_first_row() -> None:
    given: dict[str, Any] = {
        "ids": torch.ones(3, 5),
        "deep": ([torch.zeros(3)], {"scale": torch.ones(2)}),
        "flag": True,
    }
    cut = first_row(given)
    assert cut["ids"].shape == (1, 5)
    assert cut["deep"][0][0].shape == (1,)
    assert cut["deep"][1]["scale"].shape == (2,)
    assert cut["flag"] is True
    assert first_row({1: torch.ones(3, 2)})[1].shape == (1, 2)
    output = first_row(BaseModelOutput(last_hidden_state=torch.ones(3, 2)))
    assert isinstance(output, BaseModelOutput)
    assert output.last_hidden_state.shape == (1, 2)


def test_the_rows_are_those_of_the_first_tensor_that_has_any() -> None:
    given = ((True, None, torch.ones(()), [torch.ones(3, 5)]), {"scale": torch.ones(2)})
    (flag, nothing, number, (ids,)), named = first_row(given)
    assert (flag, nothing, number.shape, ids.shape) == (True, None, (), (1, 5))
    assert named["scale"].shape == (2,)
    assert first_row({"flag": True}) == {"flag": True}


def test_a_comparison_gets_no_caches() -> None:
    given = {"ids": X, "past": DynamicCache()}
    assert first_row(given)["past"] is None
    assert without_caches(given) == {"ids": X, "past": None}


class Translator(nn.Module):
    """What is asked of an encoder-decoder."""

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.config = SimpleNamespace(vocab_size=30, **config)

    def forward(self, input_ids: Tensor, decoder_input_ids: Tensor) -> Tensor:
        return input_ids + decoder_input_ids


def test_models_that_do_not_take_token_ids_get_none() -> None:
    class Unnamed(Honest):
        """Says nothing of a vocabulary."""

        def forward(self, input_ids: Tensor) -> Tensor:
            return super().forward(input_ids)

    class Picture(Honest):
        """Has a vocabulary, and reads pixels."""

        config = SimpleNamespace(vocab_size=30)

    for model in (Honest(), Unnamed(), Picture()):
        assert token_ids(model) is None


def test_an_encoder_decoder_gets_ids_for_both() -> None:
    both = token_ids(Translator(is_encoder_decoder=True))
    assert both is not None
    assert both.keys() == {"input_ids", "decoder_input_ids"}
    assert torch.equal(both["decoder_input_ids"], both["input_ids"])
    for config in ({}, {"is_encoder_decoder": False}):
        one = token_ids(Translator(**config))
        assert one is not None
        assert one.keys() == {"input_ids"}


def test_ids_are_where_the_weights_are_or_can_come_from() -> None:
    with torch.device("meta"):
        model = make_model("llama", 2)
    given = token_ids(model)
    assert given is not None
    assert given["input_ids"].device.type == "cpu"


def test_layers_that_share_a_slot_are_compared_without_a_cache() -> None:
    """So it is in models merged of layers that keep the old `layer_idx`."""
    model = make_model("llama", 3)
    model.model.layers[2].self_attn.layer_idx = 1
    given = token_ids(model)
    assert given is not None
    assert given["use_cache"] is False
    with surgery(model, "0 2 1"):
        model(**given)


def test_a_deep_copy_made_before_the_check_is_not_compared() -> None:
    model = Honest()
    with surgery(model, "3-0", path="layers"):
        twin = copy.deepcopy(model)
        found = twin(X)
        assert twin.forwards == 1
        assert torch.equal(model(X), found)
        assert model.forwards == 1 + 3


def test_what_differs_from_run_to_run_is_no_deceit() -> None:
    class Noisy(Honest):
        """As the sums of some devices: the order of adding is not the same twice."""

        size = 1e-6

        def forward(self, stream: Tensor) -> Tensor:
            self.forwards += 1
            return super().forward(stream) + self.size * self.forwards

    model = Noisy()
    with surgery(model, "0-3", path="layers"):
        model(X)
    model = Noisy()
    model.size = 1.0
    with pytest.raises(SurgeryError, match="off by"), surgery(model, "0-3", path="layers"):
        model(X)


def test_layers_that_differ_from_run_to_run_read_nothing_of_each_other() -> None:
    class NoisyLayer(Layer):
        runs = 0

        def forward(self, stream: Tensor) -> Tensor:
            self.runs += 1
            return super().forward(stream) + 1e-5 * self.runs

    model = Honest()
    model.layers = nn.ModuleList(NoisyLayer() for _ in range(4))
    with surgery(model, "0-3", path="layers"):
        model(X)
    assert model in _CHECKED


def test_a_model_that_is_a_chain_on_some_inputs_only() -> None:
    """What cannot be recorded on the tiny batch is compared on what the model is given."""

    class Single(Honest):
        config = SimpleNamespace(vocab_size=30)

        def forward(self, input_ids: Tensor) -> Tensor:
            stream = input_ids[..., None].expand(-1, -1, 4) / 30
            if len(input_ids) == 1:
                return super().forward(stream)
            return torch.stack([layer(stream) for layer in self.layers]).sum(0)

    model, one = Single(), torch.ones(1, 3)
    with surgery(model, "3-0", path="layers"):
        found = model(one)
    assert model in _CHECKED
    model.layers = nn.ModuleList(reversed(model.layers))
    assert torch.equal(model(one), found)


def test_buffers_without_numbers_are_left_alone() -> None:
    model = Honest()
    model.register_buffer("table", torch.empty(3, device="meta"))
    with surgery(model, "0-3", path="layers"):
        model(X)
    assert model.table.is_meta


# torch's own compiler uses what torch itself has deprecated
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_compiled_layers_are_known_and_checked() -> None:
    plain = Honest().eval()  # so that the comparison runs what was compiled before
    compiled, wrapped = copy.deepcopy(plain), copy.deepcopy(plain)
    for layer in compiled.layers:
        layer.compile(backend="eager")
    wrapped.layers = nn.ModuleList(torch.compile(layer, backend="eager") for layer in wrapped.layers)
    assert [is_compiled(model.layers[0]) for model in (plain, compiled, wrapped)] == [False, True, True]
    with torch.inference_mode():
        plain.layers = nn.ModuleList(reversed(plain.layers))
        expected = plain(X)
        for model in (compiled, wrapped):
            model(X)
            with surgery(model, "3-0", path="layers"):
                assert torch.equal(model(X), expected)
            assert model in _CHECKED
