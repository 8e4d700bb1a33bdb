"""Peak memory: a sweep of a hundred plans against a single plan at the same batch, each in a process of its own, and
the formula that says what it is made of.

    python benchmarks/memory.py

*Tensors* are the bytes of all tensors alive at once, the weights apart; *resident* is by how much the process grew, in
which the allocator has its say. The formula, with s = rows x tokens x hidden size x bytes of a number:

    peak = mask + (1 + live states) x s + the larger of layer and head
    layer = 2 s + 3 x rows x tokens x intermediate size x bytes    the normed stream, its residual, and the MLP's middle
    head  = 2 s + the logits where answers are scored, and their log-softmax in float32

The live states are counted on the plans themselves: what the walk through them keeps, the one that is being made, and
the sum of a parallel group, which runs along in float32.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timing
from sweeps import SWEEPS
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from painters import Plan
from painters.harness import load_model, prepare, score_together
from painters.plan import Merge, Parallel
from painters.sharing.trie import Trie, Walk


class PeakBytes(TorchDispatchMode):
    """Follows the storages that operations make, and keeps the most bytes that were alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        output = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(output):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                if storage._cdata not in known and storage._cdata not in self._alive:
                    self._alive.add(storage._cdata)
                    self.now += storage.nbytes()
                    self.most = max(self.most, self.now)
                    weakref.finalize(storage, self._end, storage._cdata, storage.nbytes())
        return output

    def _end(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self.now -= size


@dataclass(frozen=True)
class Shape:
    """The sizes of a Llama and of a batch: of rows by tokens, with `head` positions that logits are computed at, and a
    mask of so many bytes."""

    hidden: int
    intermediate: int
    vocabulary: int
    bytes: int
    rows: int
    tokens: int
    head: int
    mask: int

    @property
    def stream(self) -> int:
        """The bytes of one state."""
        return self.rows * self.tokens * self.hidden * self.bytes

    def peak(self, plans: Sequence[Plan]) -> dict[str, int]:
        """The formula: the bytes of the live states, of each kind of work, and of what is alive at once."""
        positions = self.rows * self.tokens
        work = {
            "layer": 2 * self.stream + 3 * positions * self.intermediate * self.bytes,
            "head": 2 * self.stream + self.vocabulary * (self.bytes + 4) * self.head,
        }
        states = (1 + live_states(plans, self.bytes)) * self.stream
        return {"mask": self.mask, "states": states, **work, "peak": self.mask + states + max(work.values())}


def _widest(plan: Plan) -> int:
    return max((len(step.branches) for step in plan.steps if isinstance(step, Parallel)), default=0)


class _State:
    """Stands for a stream, and is counted while it is alive."""

    alive = most = 0

    def __init__(self) -> None:
        _State.alive += 1
        _State.most = max(_State.most, _State.alive)

    def __del__(self) -> None:
        _State.alive -= 1


def live_states(plans: Sequence[Plan], bytes: int) -> int:
    """The most streams alive at once while the plans' common walk goes on; the sum of a group is one in float32, as
    large as two in half precision.
    """

    def merge(how: Merge, stream: _State, members: Iterator[_State]) -> _State:
        total = [_State() for _ in range(max(1, 4 // bytes))]
        for _ in members:
            pass
        del total
        return _State()

    _State.most = _State.alive
    before = _State.alive
    walk = Walk(Trie.of(plans), _State(), lambda layer, stream: _State(), merge)
    for _, stream in walk:
        del stream
    return _State.most - before


def plans_of(count: int, num_layers: int) -> list[Plan]:
    """The first `count` distinct plans of figures 10, 2 and 4 to 9."""
    found = [plan for name in ("fig10", "fig2", "windows") for plan in SWEEPS[name](num_layers)]
    return list(dict.fromkeys(found))[:count]


def measured(plans: Sequence[Plan], task: str, batch_size: int, limit: int) -> dict[str, int]:
    """The peak bytes of tensors while `plans` are scored together, and by how much this process grew."""
    model, tokenizer = load_model("nano-llama", device="cpu")
    ready = prepare(task, limit=limit)
    list(score_together(model, tokenizer, plans[:1], prepare(task, limit=1), batch_size=1))  # what is loaded once
    largest = Largest(model)
    before = resident()
    with PeakBytes() as peak:
        list(score_together(model, tokenizer, plans, ready, batch_size=batch_size))
    return {"tensors": peak.most, "resident": resident() - before, **largest.seen}


class Largest:
    """The sizes of the largest batch that a model is given from now on, as `Shape` has them."""

    def __init__(self, model: Any) -> None:
        self.seen = {"rows": 0, "tokens": 0, "head": 0, "mask": 0}
        self._is_largest = False
        model.register_forward_pre_hook(self._enter, with_kwargs=True)
        model.get_output_embeddings().register_forward_hook(self._head)

    def _enter(self, model: Any, args: Any, given: dict[str, Any]) -> None:
        rows, tokens = (given["input_ids"] if "input_ids" in given else args[0]).shape
        self._is_largest = rows * tokens > self.seen["rows"] * self.seen["tokens"]
        if self._is_largest:
            mask = given.get("attention_mask")
            self.seen |= {"rows": rows, "tokens": tokens, "mask": 0 if mask is None else mask.nbytes}

    def _head(self, head: Any, args: Any, logits: Tensor) -> None:
        if self._is_largest:
            self.seen["head"] = logits.shape[:-1].numel()


def resident() -> int:
    """The most bytes that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def alone(plans: Sequence[Plan], task: str, batch_size: int, limit: int) -> dict[str, int]:
    """`measured` in a process of its own."""
    asked = json.dumps([[str(plan) for plan in plans], task, batch_size, limit])
    done = subprocess.run([sys.executable, __file__, "--one", asked], capture_output=True, text=True, check=True)
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """What was measured, by name of the plans, and the formula for it and for seven billion parameters."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plans", type=int, default=100, help="how many the sweep has")
    parser.add_argument("--task", default="nano_lambada")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--limit", type=int, default=64, help="documents")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.one is not None:
        texts, task, batch_size, limit = json.loads(asked.one)
        one = measured([Plan.parse(text) for text in texts], task, batch_size, limit)
        print(json.dumps(one))
        return one
    model, _ = load_model("nano-llama", device="cpu")
    config = model.config
    weights = sum(parameter.nbytes for parameter in model.parameters())
    several = plans_of(asked.plans, config.num_hidden_layers)
    wide = max(several, key=_widest)
    cases = {"identity": [Plan.identity(config.num_hidden_layers)], str(wide): [wide], f"{len(several)} plans": several}
    found: dict[str, Any] = {
        "machine": timing.machine(),
        "weights": weights,
        "nano": {},
        "7B": {},
    }
    for name, plans in cases.items():
        taken = alone(plans, asked.task, asked.batch_size, asked.limit)
        shape = Shape(
            hidden=config.hidden_size,
            intermediate=config.intermediate_size,
            vocabulary=config.vocab_size,
            bytes=model.dtype.itemsize,
            **{size: taken[size] for size in ("rows", "tokens", "head", "mask")},
        )
        found["nano"][name] = taken | shape.peak(plans)
    larger = {"identity": [Plan.identity(32)], "{1-31}": [Plan.parse("0 {1-31}")], "100 plans": plans_of(100, 32)}
    for name, plans in larger.items():
        found["7B"][name] = LLAMA2_7B.peak(plans)
    _show(found)
    timing.write(asked.json, found)
    return found


LLAMA2_7B = Shape(
    hidden=4096, intermediate=11008, vocabulary=32000, bytes=2, rows=32, tokens=128, head=64, mask=2 * 32 * 128**2
)
LLAMA2_7B_WEIGHTS = 2 * 6_738_415_616


def _show(found: dict[str, Any]) -> None:
    """Nothing; prints the bytes in MiB and the ratios to those of single plans."""
    for model, weights in (("nano", found["weights"]), ("7B", LLAMA2_7B_WEIGHTS)):
        rows = []
        key = "tensors" if model == "nano" else "peak"
        *_, last = found[model].values()
        for name, case in found[model].items():
            cells = [f"{case[part] / 2**20:.1f}" if part in case else "" for part in _PARTS]
            ratios = [f"{last[key] / case[key]:.2f}", f"{(last[key] + weights) / (case[key] + weights):.2f}"]
            rows.append([name, *cells, *ratios])
        columns = [*_PARTS, "sweep / this", "with weights"]
        timing.show(f"{model}, MiB (weights: {weights / 2**20:.1f})", ["plans", *columns], rows)


_PARTS = ("tensors", "resident", "peak", "mask", "states", "layer", "head")


if __name__ == "__main__":
    main()
