"""What an experiment file may say: its fields and what they mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from painters.experiment.fields import (
    EncoderQuick,
    Mode,
    Model,
    Models,
    Names,
    Part,
    Quick,
    Tasks,
    Text,
    Tunings,
    Variants,
    listed,
)
from painters.experiment.grid import MAX_CELLS, Point, points
from painters.experiment.protocol import Count, EncoderProtocol, Kv, Protocol
from painters.experiment.tuning import Tuning
from painters.experiment.yaml import ExperimentError

MAX_STEPS = 2_000_000  # of all plans of an experiment together


class Grid(Part):
    """Models, tasks and variants, each with each."""

    models: Models = ()
    tasks: Tasks = ()
    variants: Variants = ()
    protocol: Protocol = Protocol()
    quick: Quick | None = None

    name: str = Field(default="", exclude=True)  # of the experiment

    @property
    def kvs(self) -> tuple[str, ...]:
        """The caches of parallel groups to score with."""
        return ("exact",)

    @property
    def tunings(self) -> tuple[Tuning | None, ...]:
        """How the models are trained before they are scored; None where they are not."""
        return (None,)

    def where(self, line: int | None = None) -> str:
        """What messages call the place of this grid's fields."""
        return f"experiment {self.name}{'' if line is None else f', line {line}'}: "

    def grid(self, num_layers: int) -> tuple[Point, ...]:
        """Every point of the experiment's own grid for a model of this size, variant by variant, its axes in order.

        Different points may have equal plans: all windows of one layer that reorder it are the intact model.
        """
        return tuple(point for column in self.columns(num_layers) for point in column)

    def columns(self, num_layers: int) -> list[list[Point]]:
        """The points of each variant; ExperimentError names what does not fit a model of this size."""
        columns: list[list[Point]] = []
        count = steps = 0
        each = max(1, len(self.tasks) * len(self.tunings))  # cells of a point
        for number, variant in enumerate(self.variants):
            columns.append([])
            where = f"{self.where(variant.line)}variants.{number}"
            for point in points(variant, num_layers, self.kvs, where, (MAX_CELLS - count) // each):
                columns[-1].append(point)
                count, steps = count + each, steps + len(point.plan.steps)
                if steps > MAX_STEPS:
                    raise ExperimentError(
                        f"{where}: more than {MAX_STEPS} steps of plans for a model of {num_layers} layers: ask for "
                        f"fewer values, in several files if need be"
                    )
        return columns

    def limited(self, limit: int) -> dict[str, Any]:
        """The fields that change where each task has at most its first `limit` documents."""
        least = min(limit, self.protocol.limit or limit)
        tasks = tuple(t.model_copy(update={"limit": min(t.limit, limit)}) if t.limit else t for t in self.tasks)
        return {"protocol": self.protocol.model_copy(update={"limit": least}), "tasks": tasks}

    def quick_fields(self) -> dict[str, Any]:
        """The fields that the section `quick` changes; ExperimentError where there is none."""
        if self.quick is None:
            raise ExperimentError(
                f"{self.where()}this grid has no quick form: add a section `quick: {{limit: 40}}`, or run it whole"
            )
        variants = tuple(variant.model_copy(update={"only": self.quick.only}) for variant in self.variants)
        return {**self.limited(self.quick.limit), "variants": variants}


class Encoder(Grid):
    """The section `encoder`: a grid of encoders, which learn each task before they are scored on it.

    Its variants are those of the experiment unless it names its own.
    """

    tuning: Annotated[Tunings, Field(min_length=1)]
    protocol: EncoderProtocol = EncoderProtocol()
    quick: EncoderQuick | None = None

    @model_validator(mode="after")
    def _whole(self) -> Encoder:
        _refuse_gaps({"models": self.models, "tasks": self.tasks})
        _refuse_doubles({"models": self.models, "tasks": self.tasks, "variants": self.variants, "tuning": self.tuning})
        for task in self.tasks:
            if task.shots is not None or task.name.endswith((".yaml", ".yml")):
                raise ValueError(
                    f"tasks: {task.name}: an encoder's task is a name or a folder; it has no shots, no YAML"
                )
        return self

    @property
    def tunings(self) -> tuple[Tuning | None, ...]:
        """How the encoders are trained before they are scored."""
        return self.tuning

    def where(self, line: int | None = None) -> str:
        """What messages call the place of this grid's fields."""
        return f"{super().where(line)}encoder."

    def quick_fields(self) -> dict[str, Any]:
        """The fields that the section `quick` changes; ExperimentError where there is none."""
        fields = super().quick_fields()
        assert self.quick is not None
        epochs, documents = self.quick.epochs, self.quick.documents
        return {**fields, "tuning": tuple(dict.fromkeys(_shorter(one, epochs, documents) for one in self.tuning))}


class Similarity(Part):
    """The section `similarity`: how alike the states of intact models are, on the first `limit` documents of `inputs`.

    The defaults are the paper's: 100 documents, batches of 8, sequences flattened whole.
    """

    models: Models = ()
    encoders: Models = ()
    inputs: Text
    modes: Annotated[tuple[Mode, ...], BeforeValidator(listed), Field(min_length=1)] = ("flat",)
    limit: Count = 100
    batch_size: Count = 8
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"

    @property
    def is_path(self) -> bool:
        """Whether the inputs are a file or folder."""
        return "/" in self.inputs or self.inputs.endswith((".txt", ".yaml", ".yml"))

    @model_validator(mode="after")
    def _whole(self) -> Similarity:
        if not (self.models or self.encoders):
            raise ValueError("models or encoders must name at least one")
        _refuse_doubles({"models": self.models + self.encoders, "modes": self.modes})
        return self


class Experiment(Grid):
    """A validated experiment file. `include` adds the cells of other files in its folder."""

    title: Text
    figure: Annotated[int, Field(strict=True, ge=1, le=99)] | None = None
    include: Names = ()
    kv: Annotated[tuple[Kv, ...], BeforeValidator(listed), Field(min_length=1)] = ("exact",)
    encoder: Encoder | None = None
    similarity: Similarity | None = None

    included: tuple[Experiment, ...] = Field(default=(), exclude=True)

    @model_validator(mode="after")
    def _whole(self) -> Experiment:
        wanted = {"models": self.models, "tasks": self.tasks, "variants": self.variants}
        missing = [name for name, value in wanted.items() if not value]
        others = self.include or self.encoder or self.similarity
        if len(missing) == 3 and not others:
            raise ValueError("an experiment needs models, tasks and variants, or what to include")
        if missing and len(missing) < 3:
            _refuse_gaps(wanted)
        if self.encoder and not (self.encoder.variants or self.variants):
            raise ValueError("encoder: variants must name at least one, here or in the experiment")
        _refuse_doubles(wanted)
        if idle := {"kv", "protocol", "quick"} & self.model_fields_set if missing else None:
            raise ValueError(f"{min(idle)} belongs to a grid of its own: included files bring theirs")
        return self

    @property
    def kvs(self) -> tuple[str, ...]:
        """The caches of parallel groups to score with."""
        return self.kv

    @property
    def parts(self) -> tuple[Grid, ...]:
        """The grids: of decoders, its own and those of included files, and then of encoders."""
        every = (self, *self.included)
        encoders = [one.encoders for one in every]
        return (*(one for one in every if one.models), *(grid for grid in encoders if grid))

    @property
    def encoders(self) -> Encoder | None:
        """The grid of its own encoders with its variants."""
        if self.encoder is None:
            return None
        return self.encoder.model_copy(
            update={"name": self.name, "variants": self.encoder.variants or self.variants},
        )

    @property
    def similarities(self) -> tuple[Similarity, ...]:
        """What to measure, its own and that of included files."""
        return tuple(one.similarity for one in (self, *self.included) if one.similarity)

    def asks(self, *, encoders: bool) -> bool:
        """Whether anything is asked of decoders, or of encoders."""
        measured = (one.encoders if encoders else one.models for one in self.similarities)
        return any(isinstance(part, Encoder) is encoders for part in self.parts) or any(measured)

    def with_model(self, name: str, revision: str | None = None) -> Experiment:
        """The same questions asked of another decoder; encoders stay."""
        given = {"models": (_model(name, revision),)}
        return self._each(lambda part: given if part.models else {})._each_similarity(
            lambda part: given if part.models else {}
        )

    def with_encoder(self, name: str, revision: str | None = None) -> Experiment:
        """The same questions asked of another encoder; decoders stay."""
        models = (_model(name, revision),)
        return self._each_encoder(lambda _: {"models": models})._each_similarity(
            lambda part: {"encoders": models} if part.encoders else {}
        )

    def without_encoders(self) -> Experiment:
        """Only what is asked of decoders; ExperimentError where nothing is left."""
        left = self._each(lambda _: {"encoder": None})._each_similarity(lambda _: {"encoders": ()})
        if not left.asks(encoders=False):
            raise ExperimentError(f"experiment {self.name} has only encoders: nothing is left without them")
        return left

    def with_data(self, folder: Path) -> Experiment:
        """The same with the documents that lie in `folder`, for those tasks that it has some of.

        For the task NAME these are in the folder `NAME/`, a .jsonl for each split in the columns that the hub has (what
        else GLUE's may be, `painters.glue` says); or `NAME.yaml` there is a task of lm-eval's kind to take instead.
        """

        def here(name: str) -> str:
            if name == ".." or Path(name).name != name:  # only names are looked up here: a path may lead elsewhere
                return name
            places = (folder / f"{name}.yaml", folder / name)
            return next((str(place.resolve()) for place in places if place.exists()), name)

        def change(part: Grid) -> dict[str, Any]:
            return {"tasks": tuple(task.model_copy(update={"name": here(task.name)}) for task in part.tasks)}

        def inputs(part: Similarity) -> dict[str, Any]:
            return {"inputs": here(part.inputs)}

        return self._each(change)._each_encoder(change)._each_similarity(inputs)

    def with_dtype(self, dtype: str) -> Experiment:
        """The same with the weights of all models in this number type."""

        def change(part: Grid) -> dict[str, Any]:
            return {"protocol": type(part.protocol).model_validate({**part.protocol.model_dump(), "dtype": dtype})}

        changed = self._each(lambda part: change(part) if part.models else {})._each_encoder(change)
        return changed._each_similarity(lambda _: {"dtype": dtype})

    def with_exact_batching(self) -> Experiment:
        """The same with decoders scored in lm-eval's batches, to the last digit."""

        def change(part: Grid) -> dict[str, Any]:
            return {"protocol": part.protocol.model_copy(update={"exact_batching": True})} if part.models else {}

        return self._each(change)

    def with_limit(self, limit: int) -> Experiment:
        """The same with at most the first `limit` documents of each task."""
        changed = self._each(lambda part: part.limited(limit))._each_encoder(lambda part: part.limited(limit))
        return changed._each_similarity(lambda part: {"limit": min(limit, part.limit)})

    def quickened(self) -> Experiment:
        """The grid that the sections `quick` leave; ExperimentError where there is none."""
        quick = self._each_encoder(Encoder.quick_fields)
        return quick._each(lambda part: part.quick_fields() if part.models else {})

    def _each(self, change: Callable[[Experiment], dict[str, Any]]) -> Experiment:
        included = tuple(part._each(change) for part in self.included)
        return self.model_copy(update={"included": included, **change(self)})

    def _each_encoder(self, change: Callable[[Encoder], dict[str, Any]]) -> Experiment:
        def changed(part: Experiment) -> dict[str, Any]:
            grid = part.encoders
            return {} if grid is None else {"encoder": grid.model_copy(update=change(grid))}

        return self._each(changed)

    def _each_similarity(self, change: Callable[[Similarity], dict[str, Any]]) -> Experiment:
        def changed(part: Experiment) -> dict[str, Any]:
            one = part.similarity
            return {} if one is None else {"similarity": one.model_copy(update=change(one))}

        return self._each(changed)


def _model(name: str, revision: str | None) -> Model:
    try:
        return Model(name=name, revision=revision)
    except ValidationError as error:
        raise ExperimentError(
            f"model {name!r:.60}: a name has 1 to 300 characters, and none of them is a control character"
        ) from error


def _refuse_gaps(wanted: Mapping[str, tuple[Any, ...]]) -> None:
    if missing := [name for name, value in wanted.items() if not value]:
        raise ValueError(f"{' and '.join(missing)} must name at least one")


def _refuse_doubles(wanted: Mapping[str, tuple[Any, ...]]) -> None:
    for name, given in wanted.items():
        if len(set(given)) < len(given):
            raise ValueError(f"{name} names one twice: keep one of them")


def _shorter(tuning: Tuning, epochs: int | None, documents: int | None) -> Tuning:
    """`tuning` with at most so many epochs and training documents."""
    counts = {"epochs": (tuning.epochs, epochs), "documents": (tuning.documents, documents)}
    least = {name: min(n for n in both if n is not None) for name, both in counts.items() if any(both)}
    return tuning.model_copy(update=least)
