"""Train a nano model: Muon for the matrices, AdamW for the rest.

The learning rate is constant after a warm-up, then decays linearly to zero. A run is a folder: `checkpoint.safetensors`
and `checkpoint.json`, from which it resumes bitwise, and `log.csv` with one line per hundred steps. The data of a step
depends on seed and step alone.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from painters.nano.batches import Batches, PackedBatch
from painters.nano.network import Network, nano_shape

LOG_EVERY = 100
N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that determines a training run.

    The mixture of documents is that of the start for `hold` steps and has settled at step `settle`; the learning rate
    falls to zero over the last `decay` steps.
    """

    seed: int = 0
    steps: int = 6000
    rows: int = 24
    length: int = 112
    rate: float = 3e-3
    embedding_rate: float = 3e-3
    weight_decay: float = 0.1
    warmup: int = 100
    hold: int = 0
    settle: int = 1800
    decay: int = 2400

    def rate_at(self, step: int) -> float:
        """Return the learning rate of `step` as a share of the full one."""
        falling = (self.steps - step) / self.decay
        return max(0.0, min(1.0, (step + 1) / self.warmup, falling))

    def blend_at(self, step: int) -> float:
        """Return how far the mixture of documents has settled at `step`, from 0 to 1."""
        return min(1.0, max(0, step - self.hold) / (self.settle - self.hold))

    @property
    def tokens(self) -> int:
        """The token positions of the whole run, padding included."""
        return self.steps * self.rows * self.length


class Training(Generic[N]):
    """A training run in a folder; it resumes from the last checkpoint, if there is one.

    A subclass names the matrices that Muon trains, and defines the network and the loss of a step.
    """

    recipe_class: ClassVar[type[Recipe]] = Recipe
    matrices: ClassVar[tuple[str, ...]]
    shares: ClassVar[Mapping[str, float]] = {}
    """The share of the learning rate for matrices that learn more slowly than the others, by name."""

    def __init__(self, recipe: Recipe, folder: Path, device: str = "cpu") -> None:
        self.recipe, self.folder, self.device = recipe, folder, device
        self.network = self._network().to(device)
        matrices: list[dict[str, Any]] = [
            {"params": list(getattr(self.network, name)), "share": self.shares.get(name, 1.0)} for name in self.matrices
        ]
        in_matrices = {id(p) for group in matrices for p in group["params"]}
        rest = [p for p in self.network.parameters() if id(p) not in in_matrices]
        self.muon = torch.optim.Muon(
            matrices, lr=recipe.rate, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"
        )
        self.adamw = torch.optim.AdamW(rest, lr=recipe.embedding_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
        self.step, self.seconds = 0, 0.0
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "checkpoint.json").exists():
            self._load()

    def _network(self) -> N:
        """Return the network with its initial weights."""
        raise NotImplementedError

    def _loss(self, step: int, blend: float) -> torch.Tensor:
        """Return the loss of one training step, a scalar; `blend` sets the mixture of documents."""
        raise NotImplementedError

    def run(self, save_every: int = 250, compiled: bool = True) -> Iterator[dict[str, float]]:
        """Train to the end; yield a row of the log every hundred steps."""
        if compiled:
            self.network.compile()
        losses: list[torch.Tensor] = []
        while self.step < self.recipe.steps:
            start = time.monotonic()
            losses.append(self._one_step().detach())
            self.seconds += time.monotonic() - start
            if self.step % save_every == 0 or self.step == self.recipe.steps:
                self._save()
            if self.step % LOG_EVERY == 0 or self.step == self.recipe.steps:
                loss = float(torch.stack(losses).mean())
                losses.clear()
                row = {"step": self.step, "loss": round(loss, 4), "seconds": round(self.seconds, 1)}
                self._log(row)
                yield row

    def _one_step(self) -> torch.Tensor:
        scale = self.recipe.rate_at(self.step)
        for optimizer, rate in ((self.muon, self.recipe.rate), (self.adamw, self.recipe.embedding_rate)):
            for group in optimizer.param_groups:
                group["lr"] = rate * scale * group.get("share", 1.0)
        loss = self._loss(self.step, self.recipe.blend_at(self.step))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for optimizer in (self.muon, self.adamw):
            optimizer.step()  # type: ignore[no-untyped-call]
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return loss

    def _log(self, row: dict[str, float]) -> None:
        path = self.folder / "log.csv"
        fresh = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            if fresh:
                writer.writeheader()
            writer.writerow(row)

    def _tensors(self) -> dict[str, torch.Tensor]:
        """Return weights and optimizer states under flat names."""
        tensors = {f"network.{name}": p.detach() for name, p in self.network.named_parameters()}
        names = {id(p): name for name, p in self.network.named_parameters()}
        for optimizer in (self.muon, self.adamw):
            for parameter, state in optimizer.state.items():
                for key, value in state.items():
                    tensors[f"state.{key}.{names[id(parameter)]}"] = torch.as_tensor(value)
        return {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}

    @classmethod
    def resume(cls, folder: Path, device: str = "cpu") -> Self:
        """Return the trainer of an existing run, with the recipe that the run was started with.

        Raise FileNotFoundError if the folder holds no run.
        """
        path = folder / "checkpoint.json"
        if not path.exists():
            raise FileNotFoundError(f"no training run in {folder}: it holds no checkpoint.json; train first")
        return cls(cls.recipe_class(**json.loads(path.read_text(encoding="utf-8"))["recipe"]), folder, device)

    def about(self) -> dict[str, Any]:
        """Return recipe, steps done and seconds spent, as JSON can hold them."""
        return {"recipe": asdict(self.recipe), "step": self.step, "seconds": round(self.seconds, 1)}

    def _save(self) -> None:
        about = self.about()
        temporary = self.folder / "checkpoint.tmp"
        save_file(self._tensors(), temporary, metadata={"about": json.dumps(about)})
        temporary.replace(self.folder / "checkpoint.safetensors")
        (self.folder / "checkpoint.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")

    def _load(self) -> None:
        about = json.loads((self.folder / "checkpoint.json").read_text(encoding="utf-8"))
        if about["recipe"] != asdict(self.recipe):
            raise ValueError(
                f"{self.folder} holds a run of another recipe: {about['recipe']}; give the run a new folder"
            )
        tensors = load_file(self.folder / "checkpoint.safetensors", device=self.device)
        parameters = dict(self.network.named_parameters())
        owner = {id(p): opt for opt in (self.muon, self.adamw) for group in opt.param_groups for p in group["params"]}
        with torch.no_grad():
            for name, tensor in tensors.items():
                kind, _, rest = name.partition(".")
                if kind == "network":
                    parameters[rest].copy_(tensor)
                else:
                    key, _, parameter = rest.partition(".")
                    target = parameters[parameter]
                    owner[id(target)].state[target][key] = tensor
        self.step, self.seconds = about["step"], about["seconds"]


class Trainer(Training[Network]):
    """The training of the decoder."""

    matrices = ("qkv", "out", "gate_up", "down")

    def __init__(self, recipe: Recipe, folder: Path, device: str = "cpu") -> None:
        super().__init__(recipe, folder, device)
        self.batches = Batches(recipe.seed, recipe.rows, recipe.length)

    def _network(self) -> Network:
        return Network(nano_shape(), self.recipe.seed)

    def _loss(self, step: int, blend: float) -> torch.Tensor:
        batch = self.batches.batch(step, blend)
        return self.network.loss(PackedBatch(*(field.to(self.device) for field in batch)))
