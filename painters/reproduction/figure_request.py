"""Which experiments figures are made of, and where their records go."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from painters import figures
from painters.experiment import Experiment, shipped
from painters.models import bundled
from painters.sweep import Overrides, load_experiments
from painters.sweep.selection import model_names
from painters.tasks import check_folder

COMMITTED, QUICK = Path("results"), Path("runs/quick")


@dataclass(frozen=True, slots=True)
class FigureRequest:
    """Figures, the experiments that they need, and the folder of their records."""

    numbers: tuple[int, ...]
    experiments: tuple[Experiment, ...]
    out: Path

    @classmethod
    def of(
        cls, names: int | str | Iterable[int | str], overrides: Overrides, *, paper: bool, out: str | Path | None
    ) -> FigureRequest:
        """Return the request for figures by number or name.

        The experiments are the paper's own if `paper` is set, or if a model is named that is not bundled.
        """
        if overrides.data is not None:
            check_folder(overrides.data)
        words = [names] if isinstance(names, int | str) else names
        numbers = figures.numbers(map(str, words))
        prefix = "paper/" if paper or _is_any_unbundled(overrides.model, overrides.encoder) else ""
        known = shipped()
        experiments = [name for number in numbers if (name := f"{prefix}fig{number}") in known]
        if out is None:
            out = default_folder(model=overrides.model, encoder=overrides.encoder, paper=paper, quick=overrides.quick)
        return cls(tuple(numbers), tuple(load_experiments(experiments, overrides)), Path(out))

    @property
    def model(self) -> str | None:
        """The decoder to draw: the first that an experiment has."""
        return next((name for experiment in self.experiments for name in model_names(experiment, encoders=False)), None)

    @property
    def encoder(self) -> str | None:
        """The encoder to draw: the first that an experiment has."""
        return next((name for experiment in self.experiments for name in model_names(experiment, encoders=True)), None)


def default_folder(
    *, model: str | None = None, encoder: str | None = None, paper: bool = False, quick: bool = False
) -> Path:
    """Return the folder that `painters.reproduce` keeps records in unless `out` names another.

    Args:
        model: The decoder instead of the experiments' own.
        encoder: The encoder instead of the experiments' own.
        paper: Whether the paper's own models and tasks are asked for.
        quick: Whether the smaller grids are.

    Returns:
        `results`, or `runs/quick` for the smaller grids; for other models `runs/` and their names.

    Examples:
        >>> default_folder(quick=True).as_posix()
        'runs/quick'
        >>> default_folder(model="meta-llama/Llama-2-7b-hf").as_posix()
        'runs/Llama-2-7b-hf'
    """
    # The path is made whole first, because "." and ".." have no names of their own.
    folders = [Path(os.path.normpath(Path.cwd() / name)) for name in (model, encoder) if name]
    name = "-".join(folder.name for folder in folders) or ("paper" if paper else "")
    if not name:
        return QUICK if quick else COMMITTED
    return Path("runs", name + ("-quick" if quick else ""))


def _is_any_unbundled(*models: str | None) -> bool:
    """Return whether one of the models that are named does not come with painters."""
    return any(name is not None and name not in bundled.models() for name in models)
