"""Train the nano BERT: the same run as the decoder's (`train`), with its own recipe, text and network."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from painters.nano.documents import Piece
from painters.nano.encoder import MATRICES, Encoder, encoder_shape
from painters.nano.encoder_corpus import KINDS, Text, text_of
from painters.nano.masking import MaskedBatch, MaskedBatches, mask, pack
from painters.nano.pairs import entailment
from painters.nano.train import Recipe, Training

RULES = ("stated", "handing_on", "denied", "kinds", "scale", "arrivals", "owners")
"""Rules of entailment that `probe_encoder` tells apart."""


@dataclass(frozen=True, slots=True)
class EncoderRecipe(Recipe):
    """Everything that determines a training run of the encoder."""

    rows: int = 21
    length: int = 128
    steps: int = 4800
    warmup: int = 200
    hold: int = 600
    settle: int = 1300
    decay: int = 1900


class EncoderTrainer(Training[Encoder]):
    """The training of the encoder."""

    recipe_class = EncoderRecipe
    matrices = MATRICES
    # What a layer adds has to stay small beside the stream: the norm that follows would fade what was there before.
    shares: ClassVar[Mapping[str, float]] = {"out": 0.2, "down": 0.2}

    def __init__(self, recipe: Recipe, folder: Path, device: str = "cpu") -> None:
        super().__init__(recipe, folder, device)
        self.batches = MaskedBatches(recipe.seed, recipe.rows, recipe.length)

    def _network(self) -> Encoder:
        return Encoder(encoder_shape(), self.recipe.seed)

    def _loss(self, step: int, blend: float) -> torch.Tensor:
        batch = self.batches.batch(step, blend)
        return self.network.loss(MaskedBatch(*(field.to(self.device) for field in batch)))


@torch.inference_mode()
def probe_encoder(network: Encoder, rows: int = 6, seed: int = 12345) -> dict[str, float]:
    """For each kind of text the share of determined words (weight 1) restored, and of `<cls>` marks that are right.

    The keys are the kind, and the kind with a question mark. Entailments are told apart by their rule.
    """
    shares = {}
    for kind in (*KINDS, *RULES):
        batch = pack(lambda d, kind=kind: _text(kind, d), mask, random.Random(f"{seed}/{kind}"), rows, 128)  # type: ignore[misc]
        keep = batch.weights >= 1
        right = network.logits(batch, keep).argmax(-1) == batch.targets[keep]
        first = batch.positions[keep] == 0
        shares[kind] = float(right[~first].float().mean())
        if first.any():
            shares[f"{kind}?"] = float(right[first].float().mean())
    return shares


def _text(kind: str, draw: random.Random) -> Text:
    if kind in KINDS:
        return text_of(kind, draw)
    while (pair := entailment(draw, holds=True)).kind != kind:
        pass
    return Text(([Piece(pair.first)], [Piece(pair.second)]))
