"""Merge the outputs of a parallel group into one stream, one output after another, so that few are in memory.

The merged stream has the type of the outputs, not that of the stream that enters the group: some layers keep a residual
in float32 and are first given embeddings in half precision.
`painters/export/modeling.py` is a deliberate twin: a change to the numbers here belongs there too.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import torch
from torch import Tensor

_HALF: Final = (torch.bfloat16, torch.float16)
_BLOCK: Final = 16
"""How many tensors torch adds up into one sum before it adds such sums to each other."""
_STEP: Final = 64
"""How many numbers torch adds in its widest step on a CPU; those that are left at the end it adds in another order."""


def _mean(stream: Tensor, branches: Iterator[Tensor]) -> Tensor:
    """Return the mean of the branches' outputs: on a CPU bitwise `torch.stack(outputs).mean(0)`.

    On a CPU it is a running sum in torch's own order, and in half precision a running sum in float32. That takes the
    memory of three streams, where `torch.stack` takes two for every branch.
    """
    outputs: Iterator[Tensor] = map(operator.methodcaller("to", stream.device), branches)  # keeps none
    first = next(outputs)
    if first.dtype in _HALF:
        kind, total, count = first.dtype, first.to(torch.float32), 1
        del first
        for output in outputs:
            kind = torch.promote_types(kind, output.dtype)
            total = total + output
            count += 1
        return (total / count).to(kind)
    outputs = itertools.chain(_popped([first]), outputs)
    del first
    if stream.device.type == "cpu":
        return _mean_in_blocks(outputs)
    return torch.stack(list(outputs)).mean(0)


def _popped(tensors: list[Tensor]) -> Iterator[Tensor]:
    """Yield the tensors, and keep none that was yielded."""
    while tensors:
        yield tensors.pop(0)


def _mean_in_blocks(outputs: Iterator[Tensor]) -> Tensor:
    """Return the mean of `outputs`, bitwise `torch.stack(outputs).mean(0)`.

    The numbers at the end that fill no whole step are left to torch, which gets them behind a whole step, as they are
    in the full tensors too.
    """
    running = _SumInBlocks()
    ends: list[Tensor] = []
    left = 0
    for output in outputs:
        if left := output.numel() % _STEP:
            ends.append(output.reshape(-1)[-_STEP - left :].clone())
        running.add(output)
        del output
    count, total = running.count, running.close()
    mean = (total.div_(count) if count > 1 else total / count).contiguous()
    if left:
        mean.view(-1)[-left:] = torch.stack(ends).mean(0)[-left:]
    return mean


class _SumInBlocks:
    """A running sum in torch's order: 16 tensors make a sum, 16 such sums make the next larger one, and so on."""

    def __init__(self) -> None:
        self.count = 0
        """How many tensors were added."""
        self._open: list[Tensor | None] = []  # at each level the sum of fewer than 16 parts, if there are any

    def add(self, tensor: Tensor) -> None:
        """Add a tensor to the open sum of single tensors; a sum that is complete goes on to the next level."""
        self.count += 1
        carried, level, parts = tensor, 0, self.count
        while True:
            if level == len(self._open):
                self._open.append(None)
            held = self._open[level]
            if held is not None:
                # added in place, but not to the first tensor of a block: that is no sum made here
                carried = held.add_(carried) if level or (parts - 1) % _BLOCK > 1 else held + carried
            if parts % _BLOCK:
                self._open[level] = carried
                return
            self._open[level] = None
            parts, level = parts // _BLOCK, level + 1

    def close(self) -> Tensor:
        """Return the sum of all tensors, and let go of the open sums."""
        sums = [part for part in self._open if part is not None]
        self._open.clear()
        return functools.reduce(torch.add, sums)


def _sum(stream: Tensor, branches: Iterator[Tensor]) -> Tensor:
    """Return x + Σ(fᵢ(x) - x): the changes are added up in the order of the branches, then x is added.

    In half precision the arithmetic is float32.
    """
    first = next(branches).to(stream.device)
    kind = first.dtype
    x, first = _wide(stream), _wide(first)
    total = first - x
    del first
    for output in branches:
        kind = torch.promote_types(kind, output.dtype)
        total = total + (_wide(output.to(stream.device)) - x)
    return (x + total).to(kind)


def _wide(tensor: Tensor) -> Tensor:
    """Return the tensor, in float32 if it is in half precision."""
    return tensor.to(torch.float32) if tensor.dtype in _HALF else tensor


MERGES: Final[Mapping[str, Callable[[Tensor, Iterator[Tensor]], Tensor]]] = {"mean": _mean, "sum": _sum}
"""Name of a merge -> function of the stream that enters the group and the outputs of its branches, each
[batch, seq, hidden]."""
