"""What a sweep did: cells found, done and failed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from painters.experiment import Cell
from painters.results import Record


@dataclass(frozen=True, slots=True)
class Failure:
    """A cell that could not be scored, and why.

    Attributes:
        cell: The cell.
        reason: Why, as text.
        error: The exception that was raised.

    Examples:
        >>> from painters.experiment import cells, load
        >>> first, *others = cells(load("fig4"), lambda model: 12)
        >>> failure = Failure(first, "out of memory", MemoryError())
        >>> f"{failure}: {failure.reason}"
        'nano-llama, identity on nano_arc: out of memory'
    """

    cell: Cell
    reason: str
    error: Exception = field(compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.cell.model}, {self.cell}"


@dataclass(slots=True)
class Summary:
    """What a sweep did.

    Attributes:
        folder: The folder of the store.
        cells: Cells of the experiments.
        found: Cells that the store had records of before.
        done: Cells that were scored.
        failures: Cells that could not be scored.
        refused: Why records in the store did not count -> how many.
        unchecked: Model or task -> why the records found could not be compared with it.
        unknown: Model -> why the number of its layers, and so its cells, are not known.
        untried: Cells that were not tried after the first failure, with `fail_fast`.
        notes: What else happened to the engine's workers -> how often.
        not_finite: Task of a model -> cells without a value, because answers were NaN or infinite.
        seconds: How long the sweep took.

    Examples:
        >>> from pathlib import Path
        >>> summary = Summary(Path("runs/fig4"), cells=12, found=4, done=8)
        >>> summary.lacks
        False
    """

    folder: Path
    cells: int = 0
    found: int = 0
    done: int = 0
    failures: list[Failure] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    unchecked: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    untried: int = 0
    notes: Counter[str] = field(default_factory=Counter)
    not_finite: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def count(self, cell: Cell, records: Sequence[Record]) -> None:
        """Count `cell` in `not_finite` if a record of it has no value because of NaN or infinite answers.

        Args:
            cell: A cell that was found or scored.
            records: Its records, one for each metric.
        """
        if any(record.not_finite and record.value is None for record in records):
            self.not_finite[f"{cell.task} of {cell.model} ({records[0].dtype})"] += 1

    @property
    def lacks(self) -> bool:
        """Whether records are still missing after the sweep."""
        return bool(self.failures or self.unknown or self.untried)

    @property
    def reasons(self) -> dict[str, list[Failure]]:
        """The failures by their reason, the most frequent reason first."""
        by_reason: dict[str, list[Failure]] = defaultdict(list)
        for failure in self.failures:
            by_reason[failure.reason].append(failure)
        return dict(sorted(by_reason.items(), key=lambda item: -len(item[1])))
