"""Records of similarity: a matrix of cosines between hidden states with everything it depends on, as a line of JSON.

In a folder of records, similarities live in `similarity/`, a file each. The store of scores does not read that folder.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from painters.errors import SimilarityError
from painters.results.files import read_intact, replace_file, report_faults
from painters.results.lines import seal

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SimilarityRecord", "Square", "folder_of", "holds_similarities", "keep", "read"]

Square: TypeAlias = tuple[tuple[float | None, ...], ...]
"""A matrix [states, states] as nested tuples; None where a number does not exist."""


class SimilarityRecord(BaseModel):
    """The cosines between the hidden states of one model under one plan, in one mode, on one set of documents.

    `painters.similarity.measure` returns such records. State 0 is the embeddings; every further state is what left a
    step of the plan.

    Examples:
        >>> from painters.similarity import measure
        >>> [record] = measure("nano-llama", ["The cat sat.", "A dog ran."], "0-2", modes=["token"])
        >>> record.labels, record.documents, record.mode
        (('embeddings', '0', '1', '2'), 2, 'token')
        >>> record.frame().round(1).loc["embeddings", "embeddings"]
        np.float64(1.0)
        >>> list(record.table().columns)
        ['norm', 'first_token', 'change', 'largest', 'influence']
        >>> list(record.angle(2).index)
        ['0', '1']
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["similarity"] = "similarity"
    mode: str
    plan: str
    model: str
    revision: str | None  # the commit on the hub
    weights: str | None  # a digest of the parameters
    num_layers: int
    stack: str | None = None  # the list of layers that the plan runs, where it was named
    dtype: str
    device: str
    attention: str | None
    inputs: str  # the task whose documents were read, the name of a file, or "texts"
    texts: str  # a digest of the token ids
    documents: int = Field(ge=1)
    sample_seed: int | None = None  # the seed that drew the documents; None: they are the first ones, or all
    asked: int | float | None = None  # the number or share of documents asked for, where it is not their number
    tokens: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    labels: tuple[str, ...]  # of the states: embeddings, then the step that each one left
    cosines: Square  # None where a state was not finite
    angles: Square | None = None  # at the last token, in half turns: 1 is the opposite direction
    profile: dict[str, tuple[float | None, ...]] | None = None  # column -> a number for each state
    flat_error: Square | None = None  # standard errors of the cosines less those of mode flat, paired by document
    versions: dict[str, str]  # library -> version
    date: str  # UTC, ISO 8601
    command: str | None = None  # the command that wrote the record; "python" where a program called painters
    name: str | None = None  # what figures and reports call the model, where the user chose it

    @model_validator(mode="after")
    def _check_sizes(self) -> SimilarityRecord:
        size = len(self.labels)
        for name in ("cosines", "angles", "flat_error"):
            square = getattr(self, name)
            if square is not None and {len(square), *map(len, square)} != {size}:
                raise ValueError(f"{name} must be {size} rows of as many numbers, one for each label")
        if any(len(column) != size for column in (self.profile or {}).values()):
            raise ValueError(f"profile must have columns of {size} numbers, one for each label")
        return self

    @model_serializer(mode="wrap")
    def _without_unset(self, fields_of: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out later fields that are None, so that the keys of older records stay what they were."""
        fields: dict[str, Any] = fields_of(self)
        return {name: value for name, value in fields.items() if value is not None or name not in _LATER_FIELDS}

    @property
    def key(self) -> str:
        """One text for all fields that can change the cosines; equal keys are the same measurement."""
        return json.dumps(self.model_dump(mode="json", exclude=set(_NOT_IN_KEY)), sort_keys=True)

    def frame(self) -> pd.DataFrame:
        """Return the cosines as a table of states x states.

        Returns:
            A DataFrame [states, states] with the labels as rows and columns; its `attrs` hold the other fields.
        """
        import pandas as pd

        names = list(self.labels)
        table = pd.DataFrame(self.cosines, index=names, columns=names, dtype="float64")
        table.attrs.update(
            self.model_dump(mode="json", exclude={"cosines", "labels", "kind", "angles", "profile", "flat_error"})
        )
        return table

    def table(self) -> pd.DataFrame:
        """Return the profile of the states as a table.

        Returns:
            A DataFrame with one row per state; `painters.similarity.measure` describes the columns.
        """
        import pandas as pd

        return pd.DataFrame(self.profile or {}, index=pd.Index(self.labels, name="state"), dtype="float64")

    def angle(self, n: int = 1) -> pd.Series[float]:
        """Return the angle between the states before and after `n` consecutive steps, for each run of `n` steps.

        Args:
            n: How many steps lie between the two states, from 1 to the number of steps.

        Returns:
            The angles in half turns (0 is the same direction, 0.5 a right angle), indexed by the first of the steps.

        Raises:
            SimilarityError: The plan has fewer than `n` steps, or the record holds no angles.
        """
        import pandas as pd

        steps = len(self.labels) - 1
        if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= steps:
            raise SimilarityError(f"angle over n = {n!r} steps: the plan has {steps}, so n is 1 to {steps}")
        if self.angles is None:
            raise SimilarityError("angles: this record of similarity holds none. Measure it again")
        values = [row[i + n] for i, row in enumerate(self.angles[: steps - n + 1])]
        first_steps = pd.Index(self.labels[1 : steps - n + 2], name="step")
        return pd.Series(values, index=first_steps, name="angular_distance", dtype="float64")


# What was measured and when. All other fields belong to the key, future fields included.
_NOT_IN_KEY = frozenset(
    "labels cosines angles profile flat_error num_layers documents asked tokens date command name".split()
)
_LATER_FIELDS = frozenset({"sample_seed", "asked", "flat_error", "name", "stack"})


def folder_of(out: str | Path) -> Path:
    """Return the folder of similarities in the folder of records `out`, neither of which need exist.

    Raise SimilarityError where a file is in the place of one of them.
    """
    out = Path(out)
    for path in (out, out / "similarity"):
        if path.exists() and not path.is_dir():
            raise SimilarityError(
                f"similarities into {path}: a file is there, where a folder is needed. Give another name"
            )
    return out / "similarity"


def keep(out: str | Path, records: Iterable[SimilarityRecord]) -> list[Path]:
    """Write records into the folder of records `out`, a file each; return the files when they are on the disk.

    A file is named after the key of its record. The file of an earlier measurement with the same key is left as it is,
    unless it is damaged or lacks a field that the new one has. An interrupted writer leaves no part of a record, and
    several processes may write at once.
    """
    folder = folder_of(out)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for record in records:
        path = folder / f"{_file_name(record)}.jsonl"
        if not any(_holds_all_of(kept, record) for kept in _kept(path)):
            replace_file(path, seal(record.model_dump_json()))
        paths.append(path)
    return paths


def read(path: str | Path) -> list[SimilarityRecord]:
    """Return the intact records of similarity in `path`, in order.

    A ResultsWarning names the damaged lines that were left out. Raise SimilarityError where there is no file, and
    ResultsError where some lines are of another version of painters.
    """
    path = Path(path)
    if not path.is_file():
        raise SimilarityError(f"similarities of {path}: there is no such file. `painters similarity` writes some")
    records, faults = read_intact(path, SimilarityRecord)
    report_faults(faults, path)
    return records


def holds_similarities(path: Path) -> bool:
    """Return whether the first record of `path` says that it is one of similarity."""
    with path.open("rb") as file:
        return b'"kind":"similarity"' in file.read(200).replace(b" ", b"")


def _kept(path: Path) -> list[SimilarityRecord]:
    """Return the intact records in `path`; none where there is no file."""
    return read_intact(path, SimilarityRecord)[0] if path.exists() else []


def _holds_all_of(kept: SimilarityRecord, record: SimilarityRecord) -> bool:
    """Return whether no optional field of `record` is missing in `kept`, and the model has no other name."""
    names = ("angles", "profile", "flat_error")
    has_all = all(getattr(kept, name) is not None for name in names if getattr(record, name) is not None)
    return has_all and record.name in (None, kept.name)


def _file_name(record: SimilarityRecord) -> str:
    """Return model, inputs and mode in safe characters, then a digest of the key."""
    parts = (Path(record.model).name, record.inputs, record.mode)
    names = (re.sub(r"[^A-Za-z0-9._]+", "-", part).strip("-.")[:40] for part in parts)
    return "-".join((*names, hashlib.sha256(record.key.encode()).hexdigest()[:12]))
