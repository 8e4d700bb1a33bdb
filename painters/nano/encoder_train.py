"""Train the nano BERT: the same run as the decoder's (`train`), with its own recipe, text and network."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from safetensors.torch import load_file

from painters.nano.encoder import MATRICES, Encoder, encoder_shape
from painters.nano.encoder_corpus import KINDS, text_of
from painters.nano.masking import MASKINGS, MaskedBatch, MaskedBatches, mask, pack
from painters.nano.train import Recipe, Training


@dataclass(frozen=True, slots=True)
class EncoderRecipe(Recipe):
    """Everything that determines a stage of training: `Recipe` with other rows, and names of how texts are chosen and
    masked."""

    rows: int = 21
    length: int = 128
    steps: int = 4600
    warmup: int = 200
    settle: int = 1000
    decay: int = 1600
    mixture: str = "broad"
    masking: str = "sparse"


STAGES: tuple[EncoderRecipe, ...] = (EncoderRecipe(),)
"""The whole training. Each stage starts from the weights of the one before, with new optimizers."""


def stage_folder(run: Path, number: int) -> Path:
    """The folder of a stage, counted from 1, in the folder of the run."""
    return run / f"stage-{number}"


class EncoderTrainer(Training[Encoder]):
    """A stage of the training of the encoder; `start` is the folder of the stage before."""

    recipe_class = EncoderRecipe
    matrices = MATRICES
    # What a layer adds has to stay small beside the stream: the norm that follows would fade what was there before.
    shares: ClassVar[Mapping[str, float]] = {"out": 0.2, "down": 0.2}

    def __init__(self, recipe: Recipe, folder: Path, device: str = "cpu", start: Path | None = None) -> None:
        super().__init__(recipe, folder, device)
        assert isinstance(recipe, EncoderRecipe)
        self.batches = MaskedBatches(recipe.seed, recipe.rows, recipe.length, recipe.mixture, recipe.masking)
        if start is not None and not self.step:
            self._begin_with(start)

    def _begin_with(self, start: Path) -> None:
        weights = load_file(start / "checkpoint.safetensors", device=self.device)
        with torch.no_grad():
            for name, parameter in self.network.named_parameters():
                parameter.copy_(weights[f"network.{name}"])

    def _network(self) -> Encoder:
        return Encoder(encoder_shape(), self.recipe.seed)

    def _loss(self, step: int, blend: float) -> torch.Tensor:
        batch = self.batches.batch(step, blend)
        return self.network.loss(MaskedBatch(*(field.to(self.device) for field in batch)))


def stages(run: Path, device: str = "cpu") -> Iterator[EncoderTrainer]:
    """The trainer of each stage in turn, `run` being the folder of them all; a stage needs the one before it whole."""
    start = None
    for number, recipe in enumerate(STAGES, 1):
        yield EncoderTrainer(recipe, stage_folder(run, number), device, start)
        start = stage_folder(run, number)


def probe_encoder(network: Encoder, rows: int = 4, seed: int = 12345) -> dict[str, float]:
    """For each kind of text the share of determined words (weight 1) restored, and of `<cls>` marks that are right.

    The keys are the kind, and the kind with a question mark.
    """
    shares = {}
    how = MASKINGS["sparse"]
    for kind in KINDS:
        draw = random.Random(f"{seed}/{kind}")
        batch = pack(
            lambda d, kind=kind: text_of(kind, d),  # type: ignore[misc]
            lambda text, d: mask(text, d, how, how.spoil),
            draw,
            rows,
            128,
        )
        keep = batch.weights >= 1
        with torch.inference_mode():
            right = network.logits(batch, keep).argmax(-1) == batch.targets[keep]
        first = batch.positions[keep] == 0
        shares[kind] = float(right[~first].float().mean())
        shares[f"{kind}?"] = float(right[first].float().mean())
    return shares
