"""Which experiments are scored, and what is changed in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from painters.documents import DocumentSelection
from painters.experiment import Experiment, ExperimentError, figure_names, find, load
from painters.models.naming import assign_names


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What is changed in experiments after they were read; the defaults change nothing.

    Attributes:
        model: The decoder to score instead of the experiments' own.
        stack: The stack of layers of `model` that plans run, where it has several, such as "decoder".
        encoder: The encoder to score instead of the experiments' own.
        encoders: False leaves encoders out.
        quick: Whether to take the smaller grids that the files state.
        limit: Score at most this many documents of each task, or this share of them.
        sample: Draw this many documents of each task at random instead.
        sample_seed: The seed of the draw; None for the experiments' own.
        dtype: The number type of all weights.
        exact_batching: Whether decoders are scored in lm-eval's own batches.
        chat: Fields of `painters.experiment.Chat` that change the prompts of decoders, by name.
        data: A folder with documents for the tasks, in place of those on the hub.
        names: What figures and reports call the models: each `NAME`, for the only decoder, or `MODEL=NAME`.

    Examples:
        >>> (experiment,) = load_experiments(["fig4"], Overrides(model="my-llama", encoders=False))
        >>> [model.name for part in experiment.parts for model in part.models]
        ['my-llama']
    """

    model: str | None = None
    stack: str | None = None
    encoder: str | None = None
    encoders: bool = True
    quick: bool = False
    limit: int | float | None = None
    sample: int | None = None
    sample_seed: int | None = None
    dtype: str | None = None
    exact_batching: bool = False
    chat: Mapping[str, Any] = field(default_factory=dict)
    data: Path | None = None
    names: Sequence[str] = ()


def load_experiments(names: Sequence[str], overrides: Overrides | None = None) -> list[Experiment]:
    """Read experiments and apply `overrides` to each of them.

    Args:
        names: Names of experiments that come with painters, `fig4` or `paper/fig4`; figures, `4`, `fig04` or
            `figure 4`; or paths of YAML files.
        overrides: What to change; None changes nothing.

    Returns:
        The experiments, in the order of their names.

    Raises:
        ExperimentError: A name or file is wrong, or an override finds nothing to change.
        ModelNameError: A name of a model cannot be shown, or it is unclear which model is meant.
        TaskError: The folder of documents does not have one of the tasks.

    Examples:
        >>> experiments = load_experiments(["4", "paper/fig5"])
        >>> [experiment.name for experiment in experiments]
        ['fig4', 'paper/fig5']
    """
    changes = overrides or Overrides()
    experiments = [load(name) for name in figure_names(names)]
    if changes.quick:
        experiments = [experiment.quickened() for experiment in experiments]
    if not changes.encoders:
        experiments = [experiment.without_encoders() for experiment in experiments]
    if changes.data is not None:
        experiments = [experiment.with_data(changes.data) for experiment in experiments]
    for option, name, is_encoder in (("--model", changes.model, False), ("--encoder", changes.encoder, True)):
        if name is not None and not any(experiment.asks(encoders=is_encoder) for experiment in experiments):
            kind = "encoder" if is_encoder else "decoder"
            where = ", ".join(names) or "these figures"
            raise ExperimentError(f"{option} {name}: no {kind} is scored for {where}; leave it out")
    if changes.model is not None:
        experiments = [experiment.with_model(changes.model, stack=changes.stack) for experiment in experiments]
    if changes.encoder is not None:
        experiments = [experiment.with_encoder(changes.encoder) for experiment in experiments]
    experiments = [_with_documents(experiment, changes) for experiment in experiments]
    if changes.chat:
        experiments = [experiment.with_chat(**changes.chat) for experiment in experiments]
    if changes.exact_batching:
        experiments = [experiment.with_exact_batching() for experiment in experiments]
    if changes.dtype is not None:
        experiments = [experiment.with_dtype(changes.dtype) for experiment in experiments]
    if changes.names:
        decoders = [name for experiment in experiments for name in model_names(experiment, encoders=False)]
        encoders = [name for experiment in experiments for name in model_names(experiment, encoders=True)]
        shown = assign_names(changes.names, decoders, encoders)
        experiments = [experiment.with_names(shown) for experiment in experiments]
    return experiments


def model_names(experiment: Experiment, *, encoders: bool) -> list[str]:
    """Return the decoders or encoders of an experiment by name: those scored, then those measured.

    Args:
        experiment: The experiment.
        encoders: Whether encoders are meant, or decoders.

    Examples:
        >>> (experiment,) = load_experiments(["4"])
        >>> model_names(experiment, encoders=True)
        ['nano-bert']
    """
    scored = [model.name for part in experiment.parts if bool(part.tunings[0]) is encoders for model in part.models]
    parts = experiment.similarities
    return scored + [model.name for part in parts for model in (part.encoders if encoders else part.models)]


def _with_documents(experiment: Experiment, changes: Overrides) -> Experiment:
    """Return the experiment with the documents that the overrides select."""
    try:
        DocumentSelection.checked(changes.limit, changes.sample, changes.sample_seed)
    except ValueError as error:
        raise ExperimentError(str(error)) from None
    if changes.limit is not None:
        return experiment.with_limit(changes.limit)
    if changes.sample is None and changes.sample_seed is None:
        return experiment
    changed = experiment.with_sample(changes.sample, changes.sample_seed)
    draws = (part.protocol.sample for part in changed.parts), (part.sample for part in changed.similarities)
    if not any(map(any, draws)):
        raise ExperimentError(
            f"sample seed {changes.sample_seed}: experiment {experiment.name} draws no documents; give a sample too"
        )
    return changed


def records_folder(names: Sequence[str]) -> Path:
    """Return the folder that the records of these experiments go to by default.

    Args:
        names: The names, as `load_experiments` takes them.

    Returns:
        `runs/` and the name of the one experiment, or `runs/sweep` for several.

    Examples:
        >>> records_folder(["paper/fig4"]).as_posix(), records_folder(["4", "5"]).as_posix()
        ('runs/paper-fig4', 'runs/sweep')
    """
    full = figure_names(names)
    if len(set(full)) > 1:
        return Path("runs/sweep")
    name = full[0] if not full[0].endswith((".yaml", ".yml")) else find(full[0]).stem
    return Path("runs") / name.replace("/", "-")
