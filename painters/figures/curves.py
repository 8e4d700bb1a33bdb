"""Figures 4 to 9 and 11: curves over the width of the window."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from painters import variants
from painters.figures.bands import Estimate, mean, median
from painters.figures.data import Data
from painters.figures.output import Drawing, band_of, bands_note, estimate_columns, records_note, short
from painters.figures.score_table import NothingToDraw, ScoreTable
from painters.figures.style import (
    BLACK,
    canvas,
    legend_below,
    line,
    look,
    reference,
    shared_legend,
    spread,
    styled,
    titled,
    whole_ticks,
    width_label,
)
from painters.plan import Plan

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SEEDS = range(10)
"""Seeds of shuffle."""


@dataclass(frozen=True, slots=True)
class Series:
    """A way to run the window.

    Attributes:
        label: What legends call it.
        title: What titles call it.
        variant: The name of the variant that builds its plans.
        params: The variant's parameters besides the window.
        seeds: The seeds, each with a plan of its own; none for a variant without one.
    """

    label: str
    title: str
    variant: str
    params: Mapping[str, int] = field(default_factory=dict)
    seeds: Sequence[int] = ()

    def plans(self, layers: int, start: int) -> list[Plan]:
        """Return the plan of this window, or the plan of each seed."""
        by_seed: list[dict[str, int]] = [{"seed": seed} for seed in self.seeds] or [{}]
        return [variants.build(self.variant, layers, start=start, **self.params, **seed) for seed in by_seed]


SERIES: Mapping[str, Series] = MappingProxyType(
    {
        "skip": Series("skip", "middle layers skipped", "skip"),
        "middle-repeat": Series("middle repeat", "the middle layer repeated", "middle-repeat"),
        "reverse": Series("reverse", "middle layers in reverse", "reverse"),
        "shuffle": Series("shuffle", "middle layers shuffled", "shuffle", seeds=SEEDS),
        "parallel": Series("parallel", "middle layers in parallel", "parallel", {"loops": 1}),
        "parallel-3": Series("looped parallel ×3", "middle layers in parallel ×3", "parallel", {"loops": 3}),
    }
)
"""Name -> series, in the order of figure 11's legend."""

COLUMNS = (
    "panel model tuning series task start affected plan seeds score score_low score_high normalised low high band"
).split()


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The score of one task, or of the aggregate over tasks, with a window of `affected` layers.

    `raw` is the score as measured, `scaled` the normalised one. `seeds` is the number of seeds with a record.
    """

    start: int
    affected: int
    plan: str
    seeds: int
    raw: Estimate | None
    scaled: Estimate | None

    def drawn(self, scores: ScoreTable) -> Estimate | None:
        """Return the estimate that the panel shows: the raw score of an encoder, the normalised one of a decoder."""
        return self.raw if scores.is_encoder else self.scaled


@dataclass(frozen=True, slots=True)
class Curves:
    """The points of one series: of each task, and `joined` of the aggregate over tasks."""

    tasks: Mapping[str, Sequence[CurvePoint]]
    joined: Sequence[CurvePoint]
    missing: Sequence[str]


def curves(scores: ScoreTable, name: str) -> Curves:
    """Collect the points of the series `name`.

    The aggregate over tasks is the median of normalised scores for a decoder, and the mean of raw scores for an
    encoder. Widths at which a task has no record have no aggregate. A series that was not asked for has no points,
    although some of its plans may be those of other variants.
    """
    tasks = scores.tasks if scores.is_encoder else scores.comparable
    by_task: dict[str, list[CurvePoint]] = {task: [] for task in tasks}
    joined: list[CurvePoint] = []
    absent: dict[tuple[str, str], list[int]] = {}
    used_seeds, asked = seeds(scores) if name == "shuffle" else [0], _was_asked(scores, name)
    for start in reversed(variants.windows(scores.num_layers)):
        plans_by_seed = SERIES[name].plans(scores.num_layers, start)
        plans = {seed: plans_by_seed[seed] for seed in used_seeds}
        points = {task: point for task in tasks if asked and (point := _point(scores, task, plans, start))}
        width = len(variants.window(scores.num_layers, start))
        for task in tasks:
            if task not in points:
                absent.setdefault((task, ""), []).append(width)
                continue
            by_task[task].append(points[task])
            if points[task].seeds < len(plans):
                amount = f"{len(plans) - points[task].seeds} of {len(plans)} seeds of "
                absent.setdefault((task, amount), []).append(width)
        if points and len(points) == len(tasks):
            joined.append(_join(list(points.values())))
    label = name + (f", {scores.tuning}" if scores.tuning else "")
    return Curves(by_task, joined, [f"{label}: {missing}" for missing in _grouped(absent, len(tasks))])


def _was_asked(scores: ScoreTable, name: str) -> bool:
    """Return whether the series `name` was asked for over any window of more than one layer."""
    series = SERIES[name]
    return any(
        scores.was_asked(plan, series.variant, **series.params)
        for start in variants.windows(scores.num_layers)
        if len(variants.window(scores.num_layers, start)) > 1
        for plan in series.plans(scores.num_layers, start)
    )


def seeds(scores: ScoreTable) -> list[int]:
    """Return the seeds of shuffle for which the widest window has a record, or all seeds where there are none.

    A seed that was never asked of this model is not missing.
    """
    widest = variants.windows(scores.num_layers)[0]
    plans = SERIES["shuffle"].plans(scores.num_layers, widest)
    used = [seed for seed, plan in zip(SEEDS, plans, strict=True) if scores.was_asked(plan, "shuffle")]
    return used or list(SEEDS)


def _grouped(absent: Mapping[tuple[str, str], Sequence[int]], count: int) -> list[str]:
    """Describe what is absent, given as (task, amount) -> widths, in one text for tasks that lack the same.

    `count` is the number of all tasks.
    """
    tasks: dict[tuple[str, str], list[str]] = {}
    for (task, amount), widths in absent.items():
        tasks.setdefault((amount, short(widths, 20)), []).append(task)
    return [
        f"{amount}{'all tasks' if len(names) == count else short(names, 10)} at M = {widths}"
        for (amount, widths), names in tasks.items()
    ]


def _point(scores: ScoreTable, task: str, plans: Mapping[int, Plan], start: int) -> CurvePoint | None:
    """Return the mean over `plans` (seed -> plan of one variant) as a point; None where none of them has a record."""
    raw = scores.over_orders(task, plans, start)
    if raw is None:
        return None
    return CurvePoint(
        start,
        len(variants.window(scores.num_layers, start)),
        str(next(iter(plans.values()))) if len(plans) == 1 else f"{len(plans)} orders",
        sum(scores.find(task, plan) is not None for plan in plans.values()),
        raw,
        scores.normalise(task, raw),
    )


def _join(points: Sequence[CurvePoint]) -> CurvePoint:
    """Aggregate the points of all tasks at one window: the mean of raw scores, the median of normalised ones."""
    raw = [point.raw for point in points if point.raw]
    scaled = [point.scaled for point in points if point.scaled]
    fewest = min(point.seeds for point in points)
    complete = len(scaled) == len(points)
    return replace(points[0], seeds=fewest, raw=mean(raw), scaled=median(scaled) if complete else None)


def one_variant(data: Data, name: str) -> Drawing:
    """Draw figures 4 to 9: a thin line for every task, a bold one with its band for the aggregate."""
    return _panels(data, [name], _paint_tasks)


def every_variant(data: Data) -> Drawing:
    """Draw figure 11: the aggregate of every variant."""
    return _panels(data, list(SERIES), _paint_variants)


Painter = Callable[["Axes", ScoreTable, Mapping[str, Curves]], None]
"""Draws the curves (series name -> curves) of one model in its panel."""


def _panels(data: Data, names: Sequence[str], paint: Painter) -> Drawing:
    """Draw a panel for the decoder and for each fine-tuning protocol of the encoder; `names` are keys of SERIES."""
    all_panels = [(scores, {name: curves(scores, name) for name in names}) for scores in data.score_tables]
    shown = [(scores, by_name) for scores, by_name in all_panels if any(map(_has_wide_window, by_name.values()))]
    if not shown:
        labels = " or ".join(SERIES[name].label for name in names)
        raise NothingToDraw("; ".join([f"no records of {labels} over any window", *_unscaled(data.decoder)]))
    with styled():
        figure, axes = canvas(len(shown), 5.4)
        for panel, (scores, by_name) in zip(axes, shown, strict=True):
            paint(panel, scores, by_name)
            _frame(panel, scores, by_name)
        encoders = [panel for panel, (scores, _) in zip(axes, shown, strict=True) if scores.is_encoder]
        for panel in encoders:
            limits = [edge for other in encoders for edge in other.get_ylim()]
            panel.set_ylim(min(limits), max(limits))
        if len(names) > 1:
            shared_legend(figure, axes, 3 if len(axes) > 1 else 2)
        else:
            for panel in axes:
                legend_below(panel, 2)
    rows = [row for scores, by_name in shown for name, curve in by_name.items() for row in _rows(scores, name, curve)]
    return Drawing(figure, rows, COLUMNS, _about(shown, is_random=_shows_shuffle(shown)), _missing(data, shown))


def _about(shown: Sequence[tuple[ScoreTable, Mapping[str, Curves]]], *, is_random: bool) -> list[str]:
    """Return the caption's paragraphs; `is_random` where the figure shows shuffle."""
    about = ["x: the number M of layers in the window, around the middle of the stack."]
    for scores, by_name in shown:
        about += [_scale_note(scores), records_note(scores, scores.tasks if scores.is_encoder else scores.comparable)]
        about += _beyond_note(scores, by_name)
    if is_random:
        by_panel = {
            scores.tuning or "decoder": seeds(scores)
            for scores, by_name in shown
            if _shows_shuffle([(scores, by_name)])
        }
        listed = "; ".join(f"{panel} {short(used, 20)}" for panel, used in by_panel.items())
        about.append(f"Shuffle is the mean over the orders of seeds: {listed}.")
        if single := [panel for panel, used in by_panel.items() if len(used) == 1]:
            about.append(
                f"One order only ({', '.join(single)}): its band is of documents, and says nothing of other orders."
            )
    about.append(bands_note([scores for scores, _ in shown], has_orders=is_random))
    return about


def _shows_shuffle(shown: Sequence[tuple[ScoreTable, Mapping[str, Curves]]]) -> bool:
    """Return whether one of the panels has points of shuffle."""
    return any(any(by_name["shuffle"].tasks.values()) for _, by_name in shown if "shuffle" in by_name)


def _has_wide_window(curve: Curves) -> bool:
    """Return whether a window has more than one layer; with one, most variants are the intact model."""
    return any(point.affected > 1 for points in curve.tasks.values() for point in points)


def _missing(data: Data, shown: Sequence[tuple[ScoreTable, Mapping[str, Curves]]]) -> list[str]:
    """Describe the missing panels, lines and points."""
    drawn = {scores.tuning for scores, _ in shown}
    missing = [] if None in drawn else ["the decoder's panel"]
    missing += [f"the encoder's panel {protocol}" for protocol in ("retuned", "frozen") if protocol not in drawn]
    missing += _unscaled(data.decoder)
    for scores, by_name in shown:
        missing += [text for curve in by_name.values() for text in curve.missing]
        if scores.is_encoder and scores.intact_mean is None:
            missing.append(f"the line of the intact model, {scores.tuning}")
        if scores.is_encoder and scores.chance_mean is None:
            missing.append(f"the line of chance, {scores.tuning}")
    return missing


def _unscaled(scores: ScoreTable | None) -> list[str]:
    """Describe the decoder's tasks that cannot be normalised."""
    tasks = [task for task in scores.tasks if task not in scores.comparable] if scores else []
    unknown = [
        task for task in tasks if scores and (record := scores.find(task, scores.identity)) and record.chance is None
    ]
    others = [task for task in tasks if task not in unknown]
    missing = [f"{short(others)}: the intact model is no better than chance, or was not scored"] if others else []
    return missing + ([f"{short(unknown)}: what guessing scores is not known"] if unknown else [])


def _scale_note(scores: ScoreTable) -> str:
    """Return the caption's paragraph on the y axis of the panel."""
    if scores.is_encoder:
        return (
            f"Encoder, {scores.tuning}: scores as they are; the bold line is their mean. The horizontal lines are "
            f"the means of the intact model's scores and of chance."
        )
    return "Decoder: scores normalised, (score - chance) / (intact - chance); the bold line is the median over tasks."


def _beyond_note(scores: ScoreTable, by_name: Mapping[str, Curves]) -> list[str]:
    """Return a sentence for the caption where the y axis does not show every value."""
    low, high = _limits(scores)
    outside = any(not low <= height <= high for height in _heights(scores, by_name))
    return ["Values outside the y axis are in the table."] if outside else []


def _rows(scores: ScoreTable, name: str, curve: Curves) -> list[dict[str, Any]]:
    """Return the rows of the table: every point, the aggregate, and for an encoder the intact model and chance."""
    shared = {"panel": "encoder" if scores.is_encoder else "decoder", "model": scores.name, "tuning": scores.tuning}
    aggregate = "mean" if scores.is_encoder else "median"
    rows: list[dict[str, Any]] = []
    for task, points in [*curve.tasks.items(), (aggregate, curve.joined)]:
        for point in points:
            # Of a decoder's aggregate only the median is drawn, of an encoder's only the mean.
            raw = None if task == "median" else point.raw
            scaled = None if scores.is_encoder else point.scaled
            rows.append(
                {**shared, "series": name, "task": task, "start": point.start, "affected": point.affected}
                | {"plan": point.plan, "seeds": point.seeds}
                | estimate_columns(raw, "score", "score_low", "score_high")
                | estimate_columns(scaled, "normalised", "low", "high")
                | band_of(scaled or raw)
            )
    if scores.is_encoder:
        levels = {"intact": scores.intact_mean, "chance": scores.chance_mean}
        rows += [{**shared, "series": key, "task": "mean", "score": level} for key, level in levels.items() if level]
    return rows


def _paint_tasks(axes: Axes, scores: ScoreTable, by_name: Mapping[str, Curves]) -> None:
    """Draw a thin line for every task of the one series, and a bold one for the aggregate."""
    [curve] = by_name.values()
    for number, (task, points) in enumerate(curve.tasks.items()):
        color, dashes, marker = look(number)
        style = (color if color != BLACK else "#8c6d31", dashes, marker)  # the aggregate is black
        line(axes, _line(points, scores), style, task, width=1.4, faint=0.0)
    line(axes, _line(curve.joined, scores), (BLACK, "-", "o"), "mean" if scores.is_encoder else "median")


def _paint_variants(axes: Axes, scores: ScoreTable, by_name: Mapping[str, Curves]) -> None:
    """Draw a line for the aggregate of every series."""
    for number, (name, curve) in enumerate(by_name.items()):
        if curve.joined:
            line(axes, _line(curve.joined, scores), look(number), SERIES[name].label, width=2.2, faint=0.12)


def _line(points: Sequence[CurvePoint], scores: ScoreTable) -> list[tuple[float, Estimate]]:
    """Return (width, estimate) of the points that have one to draw."""
    return [(point.affected, drawn) for point in points if (drawn := point.drawn(scores))]


def _frame(axes: Axes, scores: ScoreTable, by_name: Mapping[str, Curves]) -> None:
    """Set the labels, limits and ticks of a panel, and draw the lines of the intact model and of chance."""
    widths = [len(variants.window(scores.num_layers, start)) for start in variants.windows(scores.num_layers)]
    whole_ticks(axes, widths)
    axes.set_xlim(min(widths) - 0.6, max(widths) + 0.6)
    width_label(axes, scores.num_layers)
    titled(axes, scores.title, SERIES[next(iter(by_name))].title if len(by_name) == 1 else "every variant")
    if scores.is_encoder:
        axes.set_ylabel("score, mean over tasks" if len(by_name) > 1 else "score")
        levels = {"intact": scores.intact_mean, "chance": scores.chance_mean}
    else:
        axes.set_ylabel("normalised score")
        levels = {"intact": 1.0, "chance": 0.0}
    for number, (label, level) in enumerate(levels.items()):
        if level is not None:
            reference(axes, level, label, ((0, (4, 3)), (0, (1, 2)))[number])
    low, high = _limits(scores)
    heights = [*_heights(scores, by_name), *(level for level in levels.values() if level is not None)]
    spread(axes, [height for height in heights if low <= height <= high])


def _limits(scores: ScoreTable) -> tuple[float, float]:
    """Return the widest y axis: normalised scores are unbounded where the intact model is hardly better than chance."""
    return (-1.0, 1.0) if scores.is_encoder else (-0.6, 1.6)


def _heights(scores: ScoreTable, by_name: Mapping[str, Curves]) -> list[float]:
    """Return every y that is drawn: the aggregates with their bands, and the tasks where there is one series."""
    single = list(by_name.values()) if len(by_name) == 1 else []
    points = [point for curve in single for points in curve.tasks.values() for point in points]
    joined = [estimate for curve in by_name.values() for point in curve.joined if (estimate := point.drawn(scores))]
    values = [drawn.value for point in points if (drawn := point.drawn(scores))]
    return [*values, *(edge for estimate in joined for edge in (estimate.value, *(estimate.band or ())))]
