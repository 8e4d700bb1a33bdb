"""Measure peak memory: a sweep of a hundred plans against single plans at the same batch size.

Each case runs in a process of its own. A formula predicts the peak from its parts.

    python benchmarks/memory.py

*Tensors* are the bytes of all tensors alive at once, without the weights; *resident* is the growth of the process,
which also depends on the allocator. The formula, with s = rows x tokens x hidden size x bytes of a number:

    peak = mask + (1 + live states) x s + the larger of layer and head
    layer = 2 s + 3 x rows x tokens x intermediate size x bytes    the normed stream, its residual, and the MLP's middle
    head  = 2 s + the logits where answers are scored, and their log-softmax in float32

The live states are counted on the plans themselves: those that the walk through the plans keeps, the one in the making,
and the sum of a parallel group, which is kept in float32.
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
    """Tracks the storages that operations allocate, and the most bytes that were alive at once."""

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
class Sizes:
    """The sizes of a Llama and of a batch.

    Attributes:
        hidden: The hidden size.
        intermediate: The width of the MLP.
        vocabulary: The size of the vocabulary.
        bytes: The bytes of a number.
        rows: The rows of the batch.
        tokens: The tokens of a row.
        head: The positions at which logits are computed.
        mask: The bytes of the attention mask.
    """

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
        """Return the formula's bytes: of the mask, the live states, each kind of work, and the peak."""
        positions = self.rows * self.tokens
        work = {
            "layer": 2 * self.stream + 3 * positions * self.intermediate * self.bytes,
            "head": 2 * self.stream + self.vocabulary * (self.bytes + 4) * self.head,
        }
        states = (1 + live_states(plans, self.bytes)) * self.stream
        return {"mask": self.mask, "states": states, **work, "peak": self.mask + states + max(work.values())}


def _widest(plan: Plan) -> int:
    """Return the number of branches of the plan's widest parallel group."""
    return max((len(step.branches) for step in plan.steps if isinstance(step, Parallel)), default=0)


class _CountedState:
    """A stand-in for a stream that is counted while it is alive."""

    alive = most = 0

    def __init__(self) -> None:
        _CountedState.alive += 1
        _CountedState.most = max(_CountedState.most, _CountedState.alive)

    def __del__(self) -> None:
        _CountedState.alive -= 1


def live_states(plans: Sequence[Plan], bytes: int) -> int:
    """Return the most streams alive at once during the plans' common walk.

    The sum of a group counts as one in float32, which is as large as two in half precision.
    """

    def merge(how: Merge, stream: _CountedState, members: Iterator[_CountedState]) -> _CountedState:
        total = [_CountedState() for _ in range(max(1, 4 // bytes))]
        for _ in members:
            pass
        del total
        return _CountedState()

    _CountedState.most = _CountedState.alive
    before = _CountedState.alive
    walk = Walk(Trie.of(plans), _CountedState(), lambda layer, stream: _CountedState(), merge)
    for _, stream in walk:
        del stream
    return _CountedState.most - before


def plans_of(count: int, num_layers: int) -> list[Plan]:
    """Return the first `count` distinct plans of figures 10, 2 and 4 to 9."""
    plans = [plan for name in ("fig10", "fig2", "windows") for plan in SWEEPS[name](num_layers)]
    return list(dict.fromkeys(plans))[:count]


def measured(plans: Sequence[Plan], task: str, batch_size: int, limit: int) -> dict[str, int]:
    """Return the peak bytes of tensors while `plans` are scored together, and the growth of this process."""
    model, tokenizer = load_model("nano-llama", device="cpu")
    prepared = prepare(task, limit=limit)
    list(score_together(model, tokenizer, plans[:1], prepare(task, limit=1), batch_size=1))  # loads what stays loaded
    largest = LargestBatch(model)
    before = resident()
    with PeakBytes() as peak:
        list(score_together(model, tokenizer, plans, prepared, batch_size=batch_size))
    return {"tensors": peak.most, "resident": resident() - before, **largest.sizes}


class LargestBatch:
    """The sizes of the largest batch that a model is given from now on, as `Sizes` names them."""

    def __init__(self, model: Any) -> None:
        self.sizes = {"rows": 0, "tokens": 0, "head": 0, "mask": 0}
        self._is_largest = False
        model.register_forward_pre_hook(self._enter, with_kwargs=True)
        model.get_output_embeddings().register_forward_hook(self._head)

    def _enter(self, model: Any, args: Any, kwargs: dict[str, Any]) -> None:
        rows, tokens = (kwargs["input_ids"] if "input_ids" in kwargs else args[0]).shape
        self._is_largest = rows * tokens > self.sizes["rows"] * self.sizes["tokens"]
        if self._is_largest:
            mask = kwargs.get("attention_mask")
            self.sizes |= {"rows": rows, "tokens": tokens, "mask": 0 if mask is None else mask.nbytes}

    def _head(self, head: Any, args: Any, logits: Tensor) -> None:
        if self._is_largest:
            self.sizes["head"] = logits.shape[:-1].numel()


def resident() -> int:
    """Return the most bytes that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def alone(plans: Sequence[Plan], task: str, batch_size: int, limit: int) -> dict[str, int]:
    """Return what `measured` does, from a process of its own."""
    case = json.dumps([[str(plan) for plan in plans], task, batch_size, limit])
    done = subprocess.run([sys.executable, __file__, "--one", case], capture_output=True, text=True, check=True)
    peaks: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return peaks


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure and print; return the bytes by name of the plans, and the formula's for nano-llama and 7B."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plans", type=int, default=100, help="how many the sweep has")
    parser.add_argument("--task", default="nano_lambada")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--limit", type=int, default=64, help="documents")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one is not None:
        texts, task, batch_size, limit = json.loads(options.one)
        peaks = measured([Plan.parse(text) for text in texts], task, batch_size, limit)
        print(json.dumps(peaks))
        return peaks
    model, _ = load_model("nano-llama", device="cpu")
    config = model.config
    weights = sum(parameter.nbytes for parameter in model.parameters())
    several = plans_of(options.plans, config.num_hidden_layers)
    wide = max(several, key=_widest)
    cases = {"identity": [Plan.identity(config.num_hidden_layers)], str(wide): [wide], f"{len(several)} plans": several}
    report: dict[str, Any] = {
        "machine": timing.machine(),
        "weights": weights,
        "nano": {},
        "7B": {},
    }
    for name, plans in cases.items():
        peaks = alone(plans, options.task, options.batch_size, options.limit)
        sizes = Sizes(
            hidden=config.hidden_size,
            intermediate=config.intermediate_size,
            vocabulary=config.vocab_size,
            bytes=model.dtype.itemsize,
            **{size: peaks[size] for size in ("rows", "tokens", "head", "mask")},
        )
        report["nano"][name] = peaks | sizes.peak(plans)
    larger = {"identity": [Plan.identity(32)], "{1-31}": [Plan.parse("0 {1-31}")], "100 plans": plans_of(100, 32)}
    for name, plans in larger.items():
        report["7B"][name] = LLAMA2_7B.peak(plans)
    _show(report)
    timing.write(options.json, report)
    return report


LLAMA2_7B = Sizes(
    hidden=4096, intermediate=11008, vocabulary=32000, bytes=2, rows=32, tokens=128, head=64, mask=2 * 32 * 128**2
)
LLAMA2_7B_WEIGHTS = 2 * 6_738_415_616


def _show(report: dict[str, Any]) -> None:
    """Print the bytes in MiB and the ratios to those of single plans."""
    for model, weights in (("nano", report["weights"]), ("7B", LLAMA2_7B_WEIGHTS)):
        rows = []
        key = "tensors" if model == "nano" else "peak"
        *_, last = report[model].values()
        for name, case in report[model].items():
            cells = [f"{case[part] / 2**20:.1f}" if part in case else "" for part in _PARTS]
            ratios = [f"{last[key] / case[key]:.2f}", f"{(last[key] + weights) / (case[key] + weights):.2f}"]
            rows.append([name, *cells, *ratios])
        columns = [*_PARTS, "sweep / this", "with weights"]
        timing.show(f"{model}, MiB (weights: {weights / 2**20:.1f})", ["plans", *columns], rows)


_PARTS = ("tensors", "resident", "peak", "mask", "states", "layer", "head")


if __name__ == "__main__":
    main()
