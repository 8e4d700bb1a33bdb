"""Train the nano BERT: as the decoder is trained (`train`), with its own recipe, texts and network."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from painters.nano.documents import Piece
from painters.nano.encoder.corpus import KINDS, Text, text_of
from painters.nano.encoder.masking import MaskedBatch, MaskedBatches, mask, pack
from painters.nano.encoder.network import MATRICES, EncoderNetwork, encoder_shape
from painters.nano.pairs import entailment
from painters.nano.train import Recipe, Training

RULES = ("stated", "handing_on", "denied", "kinds", "scale", "arrivals", "owners")
"""Rules of entailment that `probe_encoder` reports separately."""


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


class EncoderTrainer(Training[EncoderNetwork]):
    """The training of the encoder."""

    recipe_class = EncoderRecipe
    matrices = MATRICES
    # What a layer adds has to stay small beside the stream: the norm after it would shrink what was there before.
    shares: ClassVar[Mapping[str, float]] = {"out": 0.2, "down": 0.2}

    def __init__(self, recipe: Recipe, folder: Path, device: str = "cpu") -> None:
        super().__init__(recipe, folder, device)
        self.batches = MaskedBatches(recipe.seed, recipe.rows, recipe.length)

    def _network(self) -> EncoderNetwork:
        return EncoderNetwork(encoder_shape(), self.recipe.seed)

    def _loss(self, step: int, blend: float) -> torch.Tensor:
        batch = self.batches.batch(step, blend)
        return self.network.loss(MaskedBatch(*(field.to(self.device) for field in batch)))


@torch.inference_mode()
def probe_encoder(network: EncoderNetwork, rows: int = 6, seed: int = 12345) -> dict[str, float]:
    """Return for each kind of text the share of determined words and of verdicts that are right.

    Determined words have weight 1; verdicts are those at `<cls>`. The keys are the kind for words, and the kind with a
    question mark for verdicts. Entailments are listed by rule too.
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
    """Return a text of a kind in `KINDS`, or an entailment by a rule in `RULES`."""
    if kind in KINDS:
        return text_of(kind, draw)
    while (pair := entailment(draw, holds=True)).kind != kind:
        pass
    return Text(([Piece(pair.first)], [Piece(pair.second)]))
