"""Batches for training: documents packed into rows, each document blind to its neighbours."""

from __future__ import annotations

import random
import re
from typing import NamedTuple

import torch

from painters.nano.corpus import document
from painters.nano.tokenizer import BOS, EOS, PAD, PATTERN, vocabulary

BOS_SHARE = 0.3


class PackedBatch(NamedTuple):
    """The rows of one training step; all fields are `[rows, length]`.

    `inputs` and `targets` are token ids (int64), `weights` the loss weight of each target (0 for padding). `documents`
    numbers the document of each input: attention stays within one.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    documents: torch.Tensor


class Batches:
    """The batches of a training run; they depend on seed and step alone, so that runs can resume."""

    def __init__(self, seed: int, rows: int, length: int) -> None:
        self._seed, self._rows, self._length = seed, rows, length
        self._ids = {token: i for i, token in enumerate(vocabulary())}
        self._split = re.compile(PATTERN).findall

    def encode(self, draw: random.Random, blend: float) -> tuple[list[int], list[float]]:
        """Return token ids and loss weights of the next document; three in ten begin with BOS, all end in EOS."""
        ids, weights = [], []
        if draw.random() < BOS_SHARE:
            ids.append(self._ids[BOS])
            weights.append(0.0)
        for text, weight in document(draw, blend):
            words = self._split(text)
            ids += [self._ids[word] for word in words]
            weights += [weight] * len(words)
        return [*ids, self._ids[EOS]], [*weights, 0.5]

    def batch(self, step: int, blend: float) -> PackedBatch:
        """Return the batch of `step`, its documents drawn from the mixture at `blend`."""
        draw = random.Random(f"{self._seed}/{step}")
        length = self._length
        inputs = torch.full((self._rows, length), self._ids[PAD])
        targets, weights = inputs.clone(), torch.zeros(self._rows, length)
        documents = torch.full((self._rows, length), -1)
        room = [0] * self._rows
        misses = 0
        while misses < 4:
            ids, weight = self.encode(draw, blend)
            n = len(ids) - 1
            row = next((r for r in range(self._rows) if room[r] + n <= length), None)
            if row is None:
                misses += 1
                continue
            start, end = room[row], room[row] + n
            inputs[row, start:end] = torch.tensor(ids[:-1])
            targets[row, start:end] = torch.tensor(ids[1:])
            weights[row, start:end] = torch.tensor(weight[1:])
            documents[row, start:end] = start
            room[row] = end
        return PackedBatch(inputs, targets, weights, documents)
