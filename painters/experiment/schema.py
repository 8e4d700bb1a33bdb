"""The contents of an experiment file: its sections, their fields and how they can be changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from painters.documents import ONE_OF_TWO, DocumentSelection
from painters.experiment.fields import (
    EncoderQuick,
    FrozenFields,
    Mode,
    Model,
    Models,
    Names,
    Quick,
    TaskEntry,
    Tasks,
    Text,
    Tunings,
    Variants,
    as_list,
)
from painters.experiment.grid import MAX_CELLS, Point, points
from painters.experiment.protocol import Count, EncoderProtocol, Kv, Limit, Protocol, Whole
from painters.experiment.tuning import Tuning
from painters.experiment.yaml import ExperimentError
from painters.tasks import located

MAX_STEPS = 2_000_000
"""The most steps of all plans of a grid together."""


class Grid(FrozenFields):
    """Models, tasks and variants, each combined with each.

    Attributes:
        models: The models.
        tasks: The tasks.
        variants: Rules with the values of their parameters, and plans.
        protocol: How plans are scored.
        quick: What `Experiment.quickened` leaves of the grid; None if there is no quick form.
        name: The name of the experiment.

    Examples:
        >>> from painters.experiment import load
        >>> grid = load("fig8").parts[0]
        >>> [point.plan for point in grid.grid(num_layers=4)]
        [Plan('0 {1-3}'), Plan('0-3')]
    """

    models: Models = ()
    tasks: Tasks = ()
    variants: Variants = ()
    protocol: Protocol = Protocol()
    quick: Quick | None = None

    name: str = Field(default="", exclude=True)

    @property
    def kvs(self) -> tuple[str, ...]:
        """The caches of parallel groups to score with."""
        return ("exact",)

    @property
    def tunings(self) -> tuple[Tuning | None, ...]:
        """How the models are fine-tuned before they are scored; None if they are not."""
        return (None,)

    def where(self, line: int | None = None) -> str:
        """Return what error messages about this grid begin with.

        Args:
            line: The line of the mistake in the file, if it is known.

        Returns:
            The beginning, such as "experiment fig8, line 5: ".
        """
        return f"experiment {self.name}{'' if line is None else f', line {line}'}: "

    def grid(self, num_layers: int) -> tuple[Point, ...]:
        """Return every point of the grid for a model of this size, variant by variant.

        Different points can have equal plans: a window of one layer is the intact model under every rule that only
        reorders it.

        Args:
            num_layers: The number of layers in the model.

        Returns:
            The points.

        Raises:
            ExperimentError: A variant does not fit a model of this size, or there are too many points.
        """
        return tuple(point for column in self.columns(num_layers) for point in column)

    def columns(self, num_layers: int) -> list[list[Point]]:
        """Return the points of each variant for a model of this size.

        Args:
            num_layers: The number of layers in the model.

        Returns:
            A list of points for each variant.

        Raises:
            ExperimentError: A variant does not fit a model of this size, or there are too many points.
        """
        columns: list[list[Point]] = []
        count = steps = 0
        cells_per_point = max(1, len(self.tasks) * len(self.tunings))
        for number, variant in enumerate(self.variants):
            columns.append([])
            where = f"{self.where(variant.line)}variants.{number}"
            for point in points(variant, num_layers, self.kvs, where, (MAX_CELLS - count) // cells_per_point):
                columns[-1].append(point)
                count, steps = count + cells_per_point, steps + len(point.plan.steps)
                if steps > MAX_STEPS:
                    raise ExperimentError(
                        f"{where}: more than {MAX_STEPS} steps of plans for a model of {num_layers} layers: ask for "
                        f"fewer values, in several files if need be"
                    )
        return columns

    def limited(self, limit: int | float) -> dict[str, Any]:
        """Return the fields that change if each task has at most `limit` documents.

        Args:
            limit: The most documents of each task, or a share of them (`DocumentSelection.at_most`).

        Returns:
            The changed fields, by name.
        """

        def limited(task: TaskEntry) -> TaskEntry:
            smaller = DocumentSelection(task.limit).at_most(limit).limit
            return task if task.limit is None else task.model_copy(update={"limit": smaller})

        selected = _selected(self.protocol.selection.at_most(limit))
        return {"protocol": self.protocol.model_copy(update=selected), "tasks": tuple(map(limited, self.tasks))}

    def sampled(self, sample: int | None, seed: int | None) -> dict[str, Any]:
        """Return the fields that change if documents of each task are drawn at random.

        Args:
            sample: How many, also of tasks that had a limit of their own; None for as many as the grid draws.
            seed: The seed of the draw; None for the grid's.

        Returns:
            The changed fields, by name.
        """
        selected = _selected(self.protocol.selection.sampled(sample, seed))
        tasks = self.tasks if sample is None else tuple(t.model_copy(update={"limit": None}) for t in self.tasks)
        return {"protocol": self.protocol.model_copy(update=selected), "tasks": tasks}

    def quick_fields(self) -> dict[str, Any]:
        """Return the fields that the section `quick` changes.

        Returns:
            The changed fields, by name.

        Raises:
            ExperimentError: There is no such section.
        """
        if self.quick is None:
            raise ExperimentError(
                f"{self.where()}this grid has no quick form: add a section `quick: {{limit: 40}}`, or run it whole"
            )
        variants = tuple(variant.model_copy(update={"only": self.quick.only}) for variant in self.variants)
        return {**self.limited(self.quick.limit), "variants": variants}


class Encoder(Grid):
    """The section `encoder`: a grid of encoders.

    Each encoder is fine-tuned on a task before it is scored on it. The variants are those of the experiment unless the
    section names its own.

    Attributes:
        tuning: How the encoders are fine-tuned; each combined with each model, task and variant.
        protocol: How plans are scored.
        quick: What `Experiment.quickened` leaves of the grid; None if there is no quick form.

    Examples:
        >>> from painters.experiment import load
        >>> encoder = load("fig8").encoder
        >>> [model.name for model in encoder.models], [tuning.protocol for tuning in encoder.tuning]
        (['nano-bert'], ['retuned', 'frozen'])
    """

    tuning: Annotated[Tunings, Field(min_length=1)]
    protocol: EncoderProtocol = EncoderProtocol()
    quick: EncoderQuick | None = None

    @model_validator(mode="after")
    def _check(self) -> Encoder:
        """Raise ValueError if a list is empty or repeats an entry, or if a task has what encoders cannot take."""
        _check_not_empty({"models": self.models, "tasks": self.tasks})
        _check_distinct({"models": self.models, "tasks": self.tasks, "variants": self.variants, "tuning": self.tuning})
        for task in self.tasks:
            if task.shots is not None or task.name.endswith((".yaml", ".yml")):
                raise ValueError(
                    f"tasks: {task.name}: an encoder's task is a name or a folder; it takes no shots and no YAML"
                )
        if stack := next((model.stack for model in self.models if model.stack is not None), None):
            raise ValueError(f"models: stack {stack}: an encoder has one stack of layers; leave it out")
        return self

    @property
    def tunings(self) -> tuple[Tuning | None, ...]:
        """How the encoders are fine-tuned before they are scored."""
        return self.tuning

    def where(self, line: int | None = None) -> str:
        """Return what error messages about this grid begin with.

        Args:
            line: The line of the mistake in the file, if it is known.

        Returns:
            The beginning, such as "experiment fig8, line 12: encoder.".
        """
        return f"{super().where(line)}encoder."

    def quick_fields(self) -> dict[str, Any]:
        """Return the fields that the section `quick` changes.

        Returns:
            The changed fields, by name.

        Raises:
            ExperimentError: There is no such section.
        """
        fields = super().quick_fields()
        assert self.quick is not None
        epochs, documents = self.quick.epochs, self.quick.documents
        return {**fields, "tuning": tuple(dict.fromkeys(_shorter(tuning, epochs, documents) for tuning in self.tuning))}


class Similarity(FrozenFields):
    """The section `similarity`: how similar the hidden states of intact models are.

    The defaults are the paper's.

    Attributes:
        models: The decoders to measure.
        encoders: The encoders to measure.
        inputs: The task or file that gives the texts.
        modes: How sequences of states are compared; see `painters.similarity.MODES`.
        limit: The number of documents, from the first on, or a share of them.
        sample: The number of documents that are drawn at random, in place of `limit`. None: none are.
        sample_seed: The seed of the draw.
        batch_size: Rows in a batch.
        dtype: The number type of the weights; "auto" for the checkpoint's.

    Examples:
        >>> from painters.experiment import load
        >>> similarity = load("fig3").similarity
        >>> similarity.inputs, similarity.selection
        ('nano_lambada', DocumentSelection(limit=100, sample=None, seed=0))
    """

    models: Models = ()
    encoders: Models = ()
    inputs: Text
    modes: Annotated[tuple[Mode, ...], BeforeValidator(as_list), Field(min_length=1)] = ("flat",)
    limit: Limit | None = 100
    sample: Count | None = None
    sample_seed: Whole = 0
    batch_size: Count = 8
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"

    @property
    def selection(self) -> DocumentSelection:
        """The documents that are read."""
        if self.sample is not None:
            return DocumentSelection(sample=self.sample, seed=self.sample_seed)
        return DocumentSelection(self.limit)

    @property
    def is_path(self) -> bool:
        """Whether the inputs are a file or folder."""
        return "/" in self.inputs or self.inputs.endswith((".txt", ".yaml", ".yml"))

    @model_validator(mode="after")
    def _check(self) -> Similarity:
        """Raise ValueError if there are no models, or a list repeats an entry."""
        if not (self.models or self.encoders):
            raise ValueError("models or encoders must name at least one")
        _check_distinct({"models": self.models + self.encoders, "modes": self.modes})
        if {"limit", "sample"} <= self.model_fields_set:
            raise ValueError(ONE_OF_TWO)
        return self


class Experiment(Grid):
    """An experiment: a grid of cells with a title.

    The object cannot be changed. Methods such as `with_limit` and `quickened` return changed copies.

    Attributes:
        title: The title.
        figure: The number of the figure that the experiment is for.
        include: The names of other files in its folder whose cells it adds.
        kv: The caches of parallel groups to score with.
        encoder: The grid of encoders.
        similarity: The similarities of states to measure.
        included: The experiments in the included files.

    Raises:
        ValidationError: A field is unknown, missing or malformed. The class is pydantic's; `load` raises
            `ExperimentError` with the line of the file instead.

    Examples:
        >>> from painters.experiment import Experiment
        >>> experiment = Experiment(
        ...     title="One layer left out", models="nano-llama", tasks="nano_arc",
        ...     variants=[{"name": "skip-layer", "layer": "all"}],
        ... )
        >>> [str(point.plan) for point in experiment.with_limit(2).grid(num_layers=3)]
        ['1-2', '0 2', '0-1']
    """

    title: Text
    figure: Annotated[int, Field(strict=True, ge=1, le=99)] | None = None
    include: Names = ()
    kv: Annotated[tuple[Kv, ...], BeforeValidator(as_list), Field(min_length=1)] = ("exact",)
    encoder: Encoder | None = None
    similarity: Similarity | None = None

    included: tuple[Experiment, ...] = Field(default=(), exclude=True)

    @model_validator(mode="after")
    def _check(self) -> Experiment:
        """Raise ValueError if the sections that are given do not make up an experiment."""
        lists = {"models": self.models, "tasks": self.tasks, "variants": self.variants}
        missing = [name for name, entries in lists.items() if not entries]
        others = self.include or self.encoder or self.similarity
        if len(missing) == 3 and not others:
            raise ValueError(
                "an experiment needs models, tasks and variants, or a section include, encoder or similarity"
            )
        if missing and len(missing) < 3:
            _check_not_empty(lists)
        if self.encoder and not (self.encoder.variants or self.variants):
            raise ValueError("encoder: variants must name at least one, here or in the experiment")
        _check_distinct(lists)
        if unused := {"kv", "protocol", "quick"} & self.model_fields_set if missing else None:
            raise ValueError(
                f"{min(unused)} belongs to a grid, and this experiment has none of its own: included files bring theirs"
            )
        return self

    @property
    def kvs(self) -> tuple[str, ...]:
        """The caches of parallel groups to score with."""
        return self.kv

    @property
    def parts(self) -> tuple[Grid, ...]:
        """The grids: its own and those of included files, decoders before encoders."""
        experiments = (self, *self.included)
        encoders = [experiment.encoders for experiment in experiments]
        return (*(experiment for experiment in experiments if experiment.models), *(grid for grid in encoders if grid))

    @property
    def encoders(self) -> Encoder | None:
        """The grid of its own encoders, with the experiment's variants unless it names its own."""
        if self.encoder is None:
            return None
        return self.encoder.model_copy(
            update={"name": self.name, "variants": self.encoder.variants or self.variants},
        )

    @property
    def similarities(self) -> tuple[Similarity, ...]:
        """The similarities to measure, its own and those of included files."""
        experiments = (self, *self.included)
        return tuple(experiment.similarity for experiment in experiments if experiment.similarity)

    def asks(self, *, encoders: bool) -> bool:
        """Return whether the experiment has something to score or measure for one kind of model.

        Args:
            encoders: Whether encoders are meant, or decoders.

        Returns:
            True if it has.
        """
        measured = (part.encoders if encoders else part.models for part in self.similarities)
        return any(isinstance(part, Encoder) is encoders for part in self.parts) or any(measured)

    @property
    def names(self) -> dict[str, str]:
        """What figures and reports call the models that have a name of their own, by the models' names."""
        models = [model for part in self.parts for model in part.models]
        models += [model for part in self.similarities for model in (*part.models, *part.encoders)]
        return {model.name: model.shown for model in models if model.shown is not None}

    def with_names(self, names: Mapping[str, str]) -> Experiment:
        """Return the experiment with other names for its models in figures and reports.

        Args:
            names: The names to show, by the names of the models. Others stay as they are.

        Returns:
            The changed experiment.
        """

        def named(models: Models) -> Models:
            return tuple(model.model_copy(update={"shown": names.get(model.name, model.shown)}) for model in models)

        changed = self._each(lambda part: {"models": named(part.models)})
        changed = changed._each_encoder(lambda part: {"models": named(part.models)})
        return changed._each_similarity(
            lambda part: {"models": named(part.models), "encoders": named(part.encoders)},
        )

    def with_model(self, name: str, revision: str | None = None, stack: str | None = None) -> Experiment:
        """Return the experiment with another decoder in place of all its decoders; encoders stay.

        Args:
            name: The name of the model: bundled, a folder, or of the hub.
            revision: The revision on the hub; None for the newest.
            stack: The stack of layers that plans run, such as "decoder"; None for the model's only one.

        Returns:
            The changed experiment.

        Raises:
            ExperimentError: The name is empty, longer than 300 characters, or has a control character.
        """
        models = {"models": (_model(name, revision, stack),)}
        return self._each(lambda part: models if part.models else {})._each_similarity(
            lambda part: models if part.models else {}
        )

    def with_encoder(self, name: str, revision: str | None = None) -> Experiment:
        """Return the experiment with another encoder in place of all its encoders; decoders stay.

        Args:
            name: The name of the model: bundled, a folder, or of the hub.
            revision: The revision on the hub; None for the newest.

        Returns:
            The changed experiment.

        Raises:
            ExperimentError: The name is empty, longer than 300 characters, or has a control character.
        """
        models = (_model(name, revision),)
        return self._each_encoder(lambda _: {"models": models})._each_similarity(
            lambda part: {"encoders": models} if part.encoders else {}
        )

    def without_encoders(self) -> Experiment:
        """Return the experiment without its encoders.

        Returns:
            The changed experiment.

        Raises:
            ExperimentError: Nothing is left.
        """
        left = self._each(lambda _: {"encoder": None})._each_similarity(lambda _: {"encoders": ()})
        if not left.asks(encoders=False):
            raise ExperimentError(f"experiment {self.name} has only encoders: nothing is left without them")
        return left

    def with_data(self, folder: Path) -> Experiment:
        """Return the experiment with the user's own documents in place of those on the hub.

        The documents of the task NAME are in the folder `NAME/`: a .jsonl for each split, with the columns that the
        dataset has on the hub. `painters.glue` lists the other formats for its tasks. If there is a file `NAME.yaml`,
        there or beside the folder, it is a task for lm-eval, which replaces NAME. Bundled tasks that the folder does
        not have stay, and so do paths.

        Args:
            folder: The folder.

        Returns:
            The changed experiment.

        Raises:
            TaskError: There is no such folder, or it does not have one of the tasks.
        """
        names = [task.name for part in self.parts for task in part.tasks] + [part.inputs for part in self.similarities]
        places = dict(zip(names, located(names, folder), strict=True))

        def local_name(name: str) -> str:
            return places[name]

        def local_tasks(part: Grid) -> dict[str, Any]:
            return {"tasks": tuple(task.model_copy(update={"name": local_name(task.name)}) for task in part.tasks)}

        def local_inputs(part: Similarity) -> dict[str, Any]:
            return {"inputs": local_name(part.inputs)}

        return self._each(local_tasks)._each_encoder(local_tasks)._each_similarity(local_inputs)

    def with_dtype(self, dtype: str) -> Experiment:
        """Return the experiment with the weights of all models in this number type.

        Args:
            dtype: "auto", "float32", "bfloat16" or "float16".

        Returns:
            The changed experiment.

        Raises:
            ValidationError: The number type is none of these. The class is pydantic's.
        """

        def change(part: Grid) -> dict[str, Any]:
            return {"protocol": type(part.protocol).model_validate({**part.protocol.model_dump(), "dtype": dtype})}

        changed = self._each(lambda part: change(part) if part.models else {})._each_encoder(change)
        return changed._each_similarity(lambda _: {"dtype": dtype})

    def with_exact_batching(self) -> Experiment:
        """Return the experiment with decoders scored in lm-eval's own batches, which gives its very numbers.

        Returns:
            The changed experiment.
        """

        def change(part: Grid) -> dict[str, Any]:
            return {"protocol": part.protocol.model_copy(update={"exact_batching": True})} if part.models else {}

        return self._each(change)

    def with_limit(self, limit: int | float) -> Experiment:
        """Return the experiment with at most so many documents of each task.

        Args:
            limit: The most documents of each task, or a share of them (`DocumentSelection.at_most`).

        Returns:
            The changed experiment.
        """
        changed = self._each(lambda part: part.limited(limit))._each_encoder(lambda part: part.limited(limit))
        return changed._each_similarity(lambda part: _selected(part.selection.at_most(limit)))

    def with_sample(self, sample: int | None = None, seed: int | None = None) -> Experiment:
        """Return the experiment with documents of each task drawn at random, in place of the first ones.

        Args:
            sample: How many; None for as many as the file draws.
            seed: The seed of the draw; None for the file's.

        Returns:
            The changed experiment.
        """
        changed = self._each(lambda part: part.sampled(sample, seed))
        changed = changed._each_encoder(lambda part: part.sampled(sample, seed))
        return changed._each_similarity(lambda part: _selected(part.selection.sampled(sample, seed)))

    def with_chat(self, **fields: Any) -> Experiment:
        """Return the experiment with other prompts of decoders.

        Args:
            **fields: Fields of `Chat`, those that change.

        Returns:
            The changed experiment.

        Raises:
            ExperimentError: A field has a value that it cannot have, or needs another.
        """

        def change(part: Experiment) -> dict[str, Any]:
            try:
                protocol = Protocol.model_validate(part.protocol.model_dump() | fields)
            except ValidationError as error:
                message = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
                raise ExperimentError(f"{part.where()}protocol: {message}") from error
            return {"protocol": protocol} if part.models else {}

        return self._each(change)

    def quickened(self) -> Experiment:
        """Return the quick form of the experiment: what its sections `quick` leave.

        Returns:
            The changed experiment.

        Raises:
            ExperimentError: A grid has no such section.
        """
        quick = self._each_encoder(Encoder.quick_fields)
        return quick._each(lambda part: part.quick_fields() if part.models else {})

    def _each(self, change: Callable[[Experiment], dict[str, Any]]) -> Experiment:
        """Return the experiment with the fields that `change` returns, for it and for each included one."""
        included = tuple(part._each(change) for part in self.included)
        return self.model_copy(update={"included": included, **change(self)})

    def _each_encoder(self, change: Callable[[Encoder], dict[str, Any]]) -> Experiment:
        """Return the experiment with the fields that `change` returns, for each grid of encoders."""

        def changed(part: Experiment) -> dict[str, Any]:
            grid = part.encoders
            return {} if grid is None else {"encoder": grid.model_copy(update=change(grid))}

        return self._each(changed)

    def _each_similarity(self, change: Callable[[Similarity], dict[str, Any]]) -> Experiment:
        """Return the experiment with the fields that `change` returns, for each section `similarity`."""

        def changed(part: Experiment) -> dict[str, Any]:
            similarity = part.similarity
            return {} if similarity is None else {"similarity": similarity.model_copy(update=change(similarity))}

        return self._each(changed)


def _selected(selection: DocumentSelection) -> dict[str, Any]:
    """Return the fields of a protocol, or of similarities, that select these documents."""
    return {"limit": selection.limit, "sample": selection.sample, "sample_seed": selection.seed}


def _model(name: str, revision: str | None, stack: str | None = None) -> Model:
    """Return a model of an experiment; raise ExperimentError if it cannot have this name."""
    try:
        return Model(name=name, revision=revision, stack=stack)
    except ValidationError as error:
        raise ExperimentError(
            f"model {name!r:.60}: a name has 1 to 300 characters, and none of them is a control character"
        ) from error


def _check_not_empty(lists: Mapping[str, tuple[Any, ...]]) -> None:
    """Raise ValueError if one of the lists is empty."""
    if missing := [name for name, entries in lists.items() if not entries]:
        raise ValueError(f"{' and '.join(missing)} must name at least one")


def _check_distinct(lists: Mapping[str, tuple[Any, ...]]) -> None:
    """Raise ValueError if one of the lists has equal entries."""
    for name, entries in lists.items():
        if len(set(entries)) < len(entries):
            raise ValueError(f"{name} lists one entry twice: keep one of them")


def _shorter(tuning: Tuning, epochs: int | None, documents: int | None) -> Tuning:
    """Return the tuning with at most so many epochs and training documents; None for no limit."""
    counts = {"epochs": (tuning.epochs, epochs), "documents": (tuning.documents, documents)}
    least = {name: min(n for n in both if n is not None) for name, both in counts.items() if any(both)}
    return tuning.model_copy(update=least)
