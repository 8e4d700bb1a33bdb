"""How the outputs of a parallel group become one stream: each is taken in as it comes, and few are kept."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import torch
from torch import Tensor

_BLOCK: Final = 16
"""Members that torch adds up before it puts their sum to those of other blocks."""
_STEP: Final = 64
"""Numbers in the widest step in which torch adds on a CPU; what is left at the end it adds in another order."""


def _mean(stream: Tensor, branches: Iterator[Tensor]) -> Tensor:
    """The mean of the branches' outputs, `torch.stack(outputs).mean(0)`, to the last bit on a CPU.

    There a running sum in torch's own order stands for it, and in half precision one in float32: three streams
    instead of two for every branch.
    """
    if stream.dtype in (torch.bfloat16, torch.float16):
        total, count = next(branches).to(stream.device, torch.float32), 1
        for output in branches:
            total = total + output.to(stream.device)
            count += 1
        return (total / count).to(stream.dtype)
    outputs = map(operator.methodcaller("to", stream.device), branches)  # keeps none, as a generator would
    if stream.device.type == "cpu":
        return _mean_in_blocks(outputs)
    return torch.stack(list(outputs)).mean(0)


def _mean_in_blocks(outputs: Iterator[Tensor]) -> Tensor:
    """The mean in the order of torch's sum over the first dimension: blocks of 16, blocks of these, and so on.

    The numbers at the end that fill no step are added by torch itself, behind a whole step, as they stand there too.
    """
    sums: list[Tensor | None] = []
    ends: list[Tensor] = []
    count = left = 0
    for output in outputs:
        if left := output.numel() % _STEP:
            ends.append(output.reshape(-1)[-_STEP - left :].clone())
        count += 1
        carried, level, full = output, 0, count
        while True:
            if level == len(sums):
                sums.append(None)
            held = sums[level]
            if held is not None:
                # the first of a block is an output, and no sum of ours that may be written to
                carried = held.add_(carried) if level or (full - 1) % _BLOCK > 1 else held + carried
            if full % _BLOCK:
                sums[level] = carried
                break
            sums[level] = None
            full, level = full // _BLOCK, level + 1
        del output, carried, held
    parts = [part for part in sums if part is not None]
    del sums
    total = functools.reduce(torch.add, parts)
    del parts
    mean = (total.div_(count) if count > 1 else total / count).contiguous()
    if left:
        mean.view(-1)[-left:] = torch.stack(ends).mean(0)[-left:]
    return mean


def _sum(stream: Tensor, branches: Iterator[Tensor]) -> Tensor:
    """x + Σ(fᵢ(x) - x): the changes are added up from the first branch to the last, then x is added.

    In half precision the arithmetic is float32.
    """
    wide = torch.float32 if stream.dtype in (torch.bfloat16, torch.float16) else stream.dtype
    x = stream.to(wide)
    total = next(branches).to(stream.device, wide) - x
    for output in branches:
        total = total + (output.to(stream.device, wide) - x)
    return (x + total).to(stream.dtype)


MERGES: Final[Mapping[str, Callable[[Tensor, Iterator[Tensor]], Tensor]]] = {"mean": _mean, "sum": _sum}
