"""Train the nano BERT: the same run as the decoder's (`train`), with its own recipe, text and network."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from painters.nano.encoder import MATRICES, Encoder, encoder_shape
from painters.nano.encoder_corpus import MIXTURE, text_of
from painters.nano.masking import MaskedBatch, MaskedBatches, pack
from painters.nano.train import Recipe, Training


@dataclass(frozen=True, slots=True)
class EncoderRecipe(Recipe):
    """Everything that determines a training run of the encoder: `Recipe` with a longer warm-up and other rows."""

    rows: int = 21
    length: int = 128
    warmup: int = 200
    settle: int = 1000
    decay: int = 2400


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


def probe_encoder(network: Encoder, rows: int = 4, seed: int = 12345) -> dict[str, float]:
    """For each kind of text the share of determined words (weight 1) restored, and of `<cls>` marks that are right.

    The keys are the kind, and the kind with a question mark.
    """
    shares = {}
    for kind in MIXTURE:
        batch = pack(lambda draw, kind=kind: text_of(kind, draw), random.Random(f"{seed}/{kind}"), rows, 128)  # type: ignore[misc]
        keep = batch.weights >= 1
        with torch.inference_mode():
            right = network.logits(batch, keep).argmax(-1) == batch.targets[keep]
        first = batch.positions[keep] == 0
        shares[kind] = float(right[~first].float().mean())
        shares[f"{kind}?"] = float(right[first].float().mean())
    return shares
