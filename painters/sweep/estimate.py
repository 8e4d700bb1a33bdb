"""What a sweep would cost, without weights, documents or network: cells, layer runs and an estimate of hours.

Both are stated twice: with common prefixes of plans run once, as a sweep runs them, and with each plan run separately.

Seconds per layer run and document come from the store's records of the model and task, where it has some; else from the
bundled models' measured times, or from the facts in `painters.sweep.facts`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

from painters.experiment import Cell
from painters.experiment.tuning import STATES_BYTES
from painters.plan import Plan
from painters.sharing.trie import Trie, groups
from painters.sweep.eta import Rates, key_of, passes
from painters.sweep.facts import (
    BUNDLED,
    STEP,
    TASKS,
    UTILISATION,
    Documents,
    hidden_size,
    layer_parameters,
    request_kind,
)

# The kinds of cells whose common prefixes run once: not where weights are trained, nor where text is generated.
SHARING = ("log-likelihoods", "frozen", "operated")


@dataclass(slots=True)
class Cost:
    """What cells cost as a sweep runs them, and what they would cost with each plan run separately.

    Attributes:
        cells: The number of cells.
        layer_runs: Layer runs times documents, with common prefixes run once; training is not counted, nor cells
            whose number of documents is not known.
        layer_runs_alone: The same with each plan run separately.
        hours: Estimated hours, with common prefixes run once, of the cells that can be estimated.
        hours_alone: The same with each plan run separately.

    Examples:
        >>> cost = Cost(cells=2, layer_runs=1500, layer_runs_alone=2400)
        >>> cost.layer_runs_alone / cost.layer_runs
        1.6
    """

    cells: int = 0
    layer_runs: int = 0
    layer_runs_alone: int = 0
    hours: float = 0.0
    hours_alone: float = 0.0


@dataclass(slots=True)
class Forecast:
    """What the missing cells of a sweep would cost.

    Attributes:
        cells: All cells of the experiments.
        found: Cells that the store has records of.
        plans: Distinct plans of all cells.
        total: The cost of the missing cells.
        experiments: Name and cost of each experiment by itself, where there are several.
        kinds: Kind and cost of the missing cells: log-likelihoods, generation, the protocol of a tuning, "not known".
        by_basis: Number of missing cells by what their hours are estimated from: records, bundled or parameters.
        unknown: Models and tasks of the cells that cannot be estimated.
        tflops: The device's peak that was assumed.

    Examples:
        >>> from painters import sweep
        >>> from painters.experiment import load
        >>> from painters.results import Store
        >>> forecast = sweep.plan(load("fig4"), Store("records"))
        >>> forecast.found, forecast.missing == forecast.cells
        (0, True)
    """

    cells: int
    found: int
    plans: int
    total: Cost
    experiments: tuple[tuple[str, Cost], ...]
    kinds: tuple[tuple[str, Cost], ...]
    by_basis: Counter[str]
    unknown: tuple[str, ...]
    tflops: float

    @property
    def missing(self) -> int:
        """The number of cells without a record."""
        return self.total.cells


def forecast(
    cells: Sequence[Cell],
    missing: Sequence[Cell],
    rates: Rates,
    documents: Documents,
    tflops: float,
    experiments: Iterable[tuple[str, Sequence[Cell]]] = (),
) -> Forecast:
    """Return what it would cost to score `missing`, which are some of `cells`.

    Args:
        cells: All cells of the experiments.
        missing: Those without a record.
        rates: The rates of the store's records.
        documents: How many documents tasks have.
        tflops: The peak of the device.
        experiments: Names and missing cells of the experiments whose costs are to be stated one by one.
    """
    estimate = _Estimate(rates, documents, tflops)
    by_basis: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    kinds: dict[str, list[Cell]] = {}
    for cell in missing:
        kinds.setdefault(request_kind(cell), []).append(cell)
    return Forecast(
        cells=len(cells),
        found=len(cells) - len(missing),
        plans=len({(cell.model, cell.plan) for cell in cells}),
        total=estimate.cost(missing, by_basis, unknown),
        experiments=tuple((name, estimate.cost(members)) for name, members in experiments),
        kinds=tuple((kind, estimate.cost(members)) for kind, members in kinds.items()),
        by_basis=by_basis,
        unknown=tuple(f"{what} ({count} cell{'' if count == 1 else 's'})" for what, count in unknown.items()),
        tflops=tflops,
    )


class _Estimate:
    """Adds up the costs of cells, by groups of cells that differ in their plans alone."""

    def __init__(self, rates: Rates, documents: Documents, tflops: float) -> None:
        self._rates, self._documents, self._tflops = rates, documents, tflops
        self._shared: dict[tuple[frozenset[Plan], int | None], int] = {}

    def cost(
        self, cells: Iterable[Cell], by_basis: Counter[str] | None = None, unknown: Counter[str] | None = None
    ) -> Cost:
        """Return the cost of `cells`; count in `by_basis` and `unknown` what it is estimated from, or why not."""
        by_basis, unknown = Counter() if by_basis is None else by_basis, Counter() if unknown is None else unknown
        by_requests: dict[Hashable, list[Cell]] = {}
        for cell in cells:
            by_requests.setdefault(_without_plan(cell), []).append(cell)
        total = Cost(sum(map(len, by_requests.values())))
        for group in by_requests.values():
            cell, plans = group[0], [cell.plan for cell in group]
            documents = self._documents.scored(cell)
            if documents is None:
                unknown[f"documents of {cell.task}"] += len(group)
                continue
            sent = passes(documents, self._documents.training(cell.task), cell.tuning)
            alone = sum(plan.layer_runs for plan in plans)
            is_shared = request_kind(cell) in SHARING
            shared = self._runs_together(plans, _plans_that_fit(cell, sent)) if is_shared else alone
            total.layer_runs += shared * documents
            total.layer_runs_alone += alone * documents
            basis, seconds = self._seconds(cell, documents, sent)
            if seconds is None:
                unknown[f"{cell.model} on {cell.task}"] += len(group)
                continue
            by_basis[basis] += len(group)
            # The seconds of records are already less by what sharing saved: it must not be taken off twice.
            total.hours += seconds * (alone if basis == "records" else shared) / 3600
            total.hours_alone += seconds * alone / 3600
        return total

    def _runs_together(self, plans: Sequence[Plan], at_once: int | None) -> int:
        """Return the layer runs per document of the plans, with `at_once` of them run together; None: all."""
        key = frozenset(plans), at_once
        if key not in self._shared:
            together = [plans] if at_once is None else groups(plans, at_once)
            self._shared[key] = sum(Trie.of(members).layer_runs for members in together)
        return self._shared[key]

    def _seconds(self, cell: Cell, documents: int, sent: int) -> tuple[str, float | None]:
        """Return the basis of an estimate, and seconds per layer run of a plan; None where not known.

        Args:
            cell: Any cell of a group.
            documents: How many it scores.
            sent: How many go through the model, training included.
        """
        if (rate := self._rates.of(key_of(cell))) is not None:
            return "records", rate * sent
        if (rate := BUNDLED.get((cell.model, cell.task))) is not None:
            return "bundled", rate * sent
        parameters, task = layer_parameters(cell.model), TASKS.get(cell.task)
        if parameters is None or task is None:
            return "parameters", None
        forward = sent * 2 * parameters * task.tokens / (self._tflops * 1e12 * UTILISATION)
        return "parameters", forward + documents * task.generated * STEP / cell.batch_size


def _without_plan(cell: Cell) -> Hashable:
    """Return everything of a cell that its number depends on, except the plan."""
    return replace(cell, plan=Plan.identity(1))


def _plans_that_fit(cell: Cell, documents: int) -> int | None:
    """Return how many plans' states of `documents` fit into memory at once; None where all do."""
    hidden = hidden_size(cell.model)
    if cell.tuning is None or cell.tuning.protocol != "frozen" or hidden is None:
        return None
    return max(1, STATES_BYTES // (documents * hidden * (2 if cell.dtype in ("bfloat16", "float16") else 4)))
