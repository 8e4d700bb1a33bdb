"""What a measurement of similarity leaves behind: the matrix and everything that it depends on, as a line of JSON.

In a folder of records, similarities live in `similarity/`, a file each, where the store of scores does not look.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from painters.errors import PaintersError
from painters.results.files import answer_for, intact, replace_file
from painters.results.lines import sealed

if TYPE_CHECKING:
    import pandas as pd


Square: TypeAlias = tuple[tuple[float | None, ...], ...]


class SimilarityError(PaintersError, ValueError):
    """A similarity that does not exist, or inputs of which none can be computed."""

    exit_code = 2


class SimilarityRecord(BaseModel):
    """The cosines between the states of one model under one plan, in one mode, on one set of documents."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["similarity"] = "similarity"
    mode: str
    plan: str
    model: str
    revision: str | None  # the commit on the hub
    weights: str | None  # a digest of the parameters
    num_layers: int
    dtype: str
    device: str
    attention: str | None
    inputs: str  # the task whose documents were read, the name of a file, or "texts"
    texts: str  # a digest of the token ids
    documents: int = Field(ge=1)
    tokens: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    labels: tuple[str, ...]  # of the states: embeddings, then the step that each one left
    cosines: Square  # None where a state was not finite
    angles: Square | None = None  # at the last token, as a part of a half turn
    profile: dict[str, tuple[float | None, ...]] | None = None  # what `measure` tells of each state
    versions: dict[str, str]
    date: str  # UTC, ISO 8601
    command: str | None = None  # that wrote the record; "python" for a program that called painters

    @model_validator(mode="after")
    def _fits_the_labels(self) -> SimilarityRecord:
        size = len(self.labels)
        squares = {"cosines": self.cosines} | ({"angles": self.angles} if self.angles is not None else {})
        for name, square in squares.items():
            if {len(square), *map(len, square)} != {size}:
                raise ValueError(f"{name} must be {size} rows of as many numbers, one for each label")
        if any(len(column) != size for column in (self.profile or {}).values()):
            raise ValueError(f"profile must have columns of {size} numbers, one for each label")
        return self

    @property
    def key(self) -> str:
        """One text for all fields that can change the cosines; equal keys are the same measurement."""
        return json.dumps(self.model_dump(mode="json", exclude=set(_NOT_IN_KEY)), sort_keys=True)

    def frame(self) -> pd.DataFrame:
        """The cosines, states x states; attrs hold the other fields."""
        import pandas as pd

        names = list(self.labels)
        table = pd.DataFrame(self.cosines, index=names, columns=names, dtype="float64")
        table.attrs.update(self.model_dump(mode="json", exclude={"cosines", "labels", "kind", "angles", "profile"}))
        return table

    def table(self) -> pd.DataFrame:
        """The profile: one row per state; `measure` says what the columns are."""
        import pandas as pd

        return pd.DataFrame(self.profile or {}, index=pd.Index(self.labels, name="state"), dtype="float64")

    def angle(self, n: int = 1) -> pd.Series[float]:
        """The angle between the states before and after `n` steps in a row, indexed by the first of the steps.

        SimilarityError where the plan has fewer steps, or the record no angles.
        """
        import pandas as pd

        steps = len(self.labels) - 1
        if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= steps:
            raise SimilarityError(f"angle over n = {n!r} steps: the plan has {steps}, so n is 1 to {steps}")
        if self.angles is None:
            raise SimilarityError("angles of a record without any: measure it again")
        values = [row[i + n] for i, row in enumerate(self.angles[: steps - n + 1])]
        first = pd.Index(self.labels[1 : steps - n + 2], name="step")
        return pd.Series(values, index=first, name="angular_distance", dtype="float64")


# What was measured and when; everything else belongs to the key, fields to come included.
_NOT_IN_KEY = frozenset("labels cosines angles profile num_layers documents tokens date command".split())


def folder_of(out: str | Path) -> Path:
    """Where similarities live in the folder of records `out`; SimilarityError where a file is in the way."""
    out = Path(out)
    for path in (out, out / "similarity"):
        if path.exists() and not path.is_dir():
            raise SimilarityError(f"similarities into {path}: a file is there, and they need a folder: name another")
    return out / "similarity"


def keep(out: str | Path, records: Iterable[SimilarityRecord]) -> list[Path]:
    """The file of each record in the folder of records `out`, on the disk when this returns.

    A file holds one record and is named after its key: what was measured before is left as it is unless it was damaged,
    an interrupted writer leaves no part of a record, and several may write at once.
    """
    folder = folder_of(out)
    folder.mkdir(parents=True, exist_ok=True)
    kept = []
    for record in records:
        path = folder / f"{_file_name(record)}.jsonl"
        if not (path.exists() and intact(path, SimilarityRecord)[0]):
            replace_file(path, sealed(record.model_dump_json()))
        kept.append(path)
    return kept


def read(path: str | Path) -> list[SimilarityRecord]:
    """The intact records in `path`, in order; a ResultsWarning names the lines that were left out.

    SimilarityError where there is no file, ResultsError where it is one of another version of painters.
    """
    path = Path(path)
    if not path.is_file():
        raise SimilarityError(f"similarities of {path}: there is no such file. `painters similarity` writes some")
    found, faults = intact(path, SimilarityRecord)
    answer_for(faults, path)
    return found


def holds_similarities(path: Path) -> bool:
    """Whether the first line of `path` says so."""
    with path.open("rb") as file:
        return b'"kind":"similarity"' in file.read(200).replace(b" ", b"")


def _file_name(record: SimilarityRecord) -> str:
    parts = (Path(record.model).name, record.inputs, record.mode)
    names = (re.sub(r"[^A-Za-z0-9._]+", "-", part).strip("-.")[:40] for part in parts)
    return "-".join((*names, hashlib.sha256(record.key.encode()).hexdigest()[:12]))
