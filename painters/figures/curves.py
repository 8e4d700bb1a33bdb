"""Curves over the width of the window: Figures 4 to 9 and 11."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from painters import variants
from painters.figures.bands import Estimate, mean, median, over_seeds
from painters.figures.board import Board, NothingToDraw
from painters.figures.data import Data
from painters.figures.output import Drawing, bands_note, numbers, provenance, short
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
    whole_ticks,
)
from painters.plan import Plan

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SEEDS = range(10)


@dataclass(frozen=True, slots=True)
class Series:
    """A way to run the window: its label, and its plans for a window, several where it is random."""

    label: str
    plans: Callable[[int, int], Sequence[Plan]]


def _one(name: str, **params: int) -> Callable[[int, int], Sequence[Plan]]:
    return lambda layers, start: [variants.build(name, layers, start=start, **params)]


SERIES: Mapping[str, Series] = MappingProxyType(
    {
        "skip": Series("skip", _one("skip")),
        "middle-repeat": Series("middle repeat", _one("middle-repeat")),
        "reverse": Series("reverse", _one("reverse")),
        "shuffle": Series(
            "shuffle",
            lambda layers, start: [variants.shuffle(num_layers=layers, start=start, seed=seed) for seed in SEEDS],
        ),
        "parallel": Series("parallel", _one("parallel")),
        "parallel-3": Series("looped parallel ×3", _one("parallel", loops=3)),
    }
)

COLUMNS = (
    "panel model tuning series task start affected plan seeds score score_low score_high normalised low high".split()
)


@dataclass(frozen=True, slots=True)
class Point:
    """What one task, or their aggregate, scored with a window of `affected` layers."""

    start: int
    affected: int
    plan: str
    seeds: int
    raw: Estimate | None
    scaled: Estimate | None

    def drawn(self, board: Board) -> Estimate | None:
        """What the panel of `board` shows: an encoder's score as it is, a decoder's normalised."""
        return self.raw if board.is_encoder else self.scaled


@dataclass(frozen=True, slots=True)
class Curves:
    """The points of one series: task by task, and of the aggregate over tasks."""

    tasks: Mapping[str, Sequence[Point]]
    joined: Sequence[Point]
    missing: Sequence[str]


def curves(board: Board, name: str) -> Curves:
    """A decoder's scores are normalised and joined by the median, an encoder's stay and are joined by the mean."""
    tasks = board.tasks if board.is_encoder else board.comparable
    by_task: dict[str, list[Point]] = {task: [] for task in tasks}
    joined: list[Point] = []
    absent: dict[tuple[str, str], list[int]] = {}
    orders = seeds(board) if name == "shuffle" else [0]
    for start in reversed(variants.windows(board.num_layers)):
        every = SERIES[name].plans(board.num_layers, start)
        plans = [every[order] for order in orders]
        here = {task: point for task in tasks if (point := _point(board, task, plans, start))}
        width = len(variants.window(board.num_layers, start))
        for task in tasks:
            if task not in here:
                absent.setdefault((task, ""), []).append(width)
                continue
            by_task[task].append(here[task])
            if here[task].seeds < len(plans):
                few = f"{len(plans) - here[task].seeds} of {len(plans)} seeds of "
                absent.setdefault((task, few), []).append(width)
        if here and len(here) == len(tasks):
            joined.append(_join(list(here.values())))
    label = name + (f", {board.tuning}" if board.tuning else "")
    return Curves(by_task, joined, [f"{label}: {what}" for what in _grouped(absent, len(tasks))])


def seeds(board: Board) -> list[int]:
    """The seeds of shuffle that were asked of this model: those that its widest window was scored with, or all."""
    widest = variants.windows(board.num_layers)[0]
    plans = SERIES["shuffle"].plans(board.num_layers, widest)
    found = [seed for seed, plan in zip(SEEDS, plans, strict=True) if any(board.find(t, plan) for t in board.tasks)]
    return found or list(SEEDS)


def _grouped(absent: Mapping[tuple[str, str], Sequence[int]], count: int) -> list[str]:
    """What is absent, (task, how much) -> widths, in words; tasks that lack the same are named together."""
    tasks: dict[tuple[str, str], list[str]] = {}
    for (task, much), where in absent.items():
        tasks.setdefault((much, short(where, 20)), []).append(task)
    return [
        f"{much}{'all tasks' if len(some) == count else short(some, 10)} at M = {where}"
        for (much, where), some in tasks.items()
    ]


def _point(board: Board, task: str, plans: Sequence[Plan], start: int) -> Point | None:
    raw = [estimate for plan in plans if (estimate := board.raw(task, plan))]
    if not raw:
        return None
    scaled = [estimate for plan in plans if (estimate := board.scaled(task, plan))]
    return Point(
        start,
        len(variants.window(board.num_layers, start)),
        str(plans[0]) if len(plans) == 1 else f"{len(plans)} orders",
        len(raw),
        over_seeds(raw, start),
        over_seeds(scaled, start) if len(scaled) == len(raw) else None,
    )


def _join(points: Sequence[Point]) -> Point:
    """The mean of the scores and the median of the normalised ones, of all tasks at one window."""
    raw = [point.raw for point in points if point.raw]
    scaled = [point.scaled for point in points if point.scaled]
    seeds = min(point.seeds for point in points)
    both = len(scaled) == len(points)
    return replace(points[0], seeds=seeds, raw=mean(raw), scaled=median(scaled) if both else None)


def one_variant(data: Data, name: str) -> Drawing:
    """Figures 4 to 9: every task thin, the aggregate bold with its band."""
    return _panels(data, [name], _paint_tasks)


def every_variant(data: Data) -> Drawing:
    """Figure 11: the aggregate of every variant."""
    return _panels(data, list(SERIES), _paint_variants)


Painter = Callable[["Axes", Board, Mapping[str, Curves]], None]


def _panels(data: Data, names: Sequence[str], paint: Painter) -> Drawing:
    found = [(board, {name: curves(board, name) for name in names}) for board in data.boards]
    shown = [(board, some) for board, some in found if any(_altered(one) for one in some.values())]
    if not shown:
        labels = " or ".join(SERIES[name].label for name in names)
        raise NothingToDraw("; ".join([f"no records of {labels} over any window", *_unscaled(data.decoder)]))
    with styled():
        figure, axes = canvas(len(shown), 5.4)
        for place, (board, some) in zip(axes, shown, strict=True):
            paint(place, board, some)
            _frame(place, board, some)
        encoders = [place for place, (board, _) in zip(axes, shown, strict=True) if board.is_encoder]
        for place in encoders:
            limits = [edge for other in encoders for edge in other.get_ylim()]
            place.set_ylim(min(limits), max(limits))
        if len(names) > 1:
            shared_legend(figure, axes, 3 if len(axes) > 1 else 2)
        else:
            for place in axes:
                legend_below(place, 2)
    about = ["x: the number M of layers in the window, around the middle of the stack."]
    for board, some in shown:
        about += [_scale_note(board), provenance(board, board.tasks if board.is_encoder else board.comparable)]
        about += _beyond_note(board, some)
    shuffled = "shuffle" in names
    if shuffled:
        over = "; ".join(f"{board.tuning or 'decoder'} {short(seeds(board), 20)}" for board, _ in shown)
        about.append(f"Shuffle is the mean over seeds, drawn with the documents: {over}.")
    about.append(bands_note([board for board, _ in shown], "seeds and documents" if shuffled else "documents"))
    rows = [row for board, some in shown for name, one in some.items() for row in _rows(board, name, one)]
    return Drawing(figure, rows, COLUMNS, about, _missing(data, shown))


def _altered(one: Curves) -> bool:
    """Whether there is more than the window of one layer, where most variants are the intact model."""
    return any(point.affected > 1 for points in one.tasks.values() for point in points)


def _missing(data: Data, shown: Sequence[tuple[Board, Mapping[str, Curves]]]) -> list[str]:
    drawn = {board.tuning for board, _ in shown}
    missing = [] if None in drawn else ["the decoder's panel"]
    missing += [f"the encoder's panel {protocol}" for protocol in ("retuned", "frozen") if protocol not in drawn]
    missing += _unscaled(data.decoder)
    for board, some in shown:
        missing += [what for one in some.values() for what in one.missing]
        if board.is_encoder and board.intact_mean is None:
            missing.append(f"the line of the intact model, {board.tuning}")
        if board.is_encoder and board.chance_mean is None:
            missing.append(f"the line of chance, {board.tuning}")
    return missing


def _unscaled(board: Board | None) -> list[str]:
    """The decoder's tasks without a scale, in words."""
    tasks = [task for task in board.tasks if task not in board.comparable] if board else []
    return [f"{short(tasks)}: the intact model is no better than chance, or was not scored"] if tasks else []


def _scale_note(board: Board) -> str:
    if board.is_encoder:
        return (
            f"Encoder, {board.tuning}: scores as they are; the bold line is their mean. The lines across are the means "
            f"of the intact model's scores and of chance."
        )
    return "Decoder: scores normalised, (score - chance) / (intact - chance); the bold line is the median over tasks."


def _beyond_note(board: Board, found: Mapping[str, Curves]) -> list[str]:
    low, high = _limits(board, found)
    outside = any(not low <= height <= high for height in _heights(board, found))
    return ["What lies beyond the y axis is in the table."] if outside else []


def _rows(board: Board, name: str, one: Curves) -> list[dict[str, Any]]:
    shared = {"panel": "encoder" if board.is_encoder else "decoder", "model": board.model, "tuning": board.tuning}
    together = "mean" if board.is_encoder else "median"
    rows: list[dict[str, Any]] = []
    for task, points in [*one.tasks.items(), (together, one.joined)]:
        for point in points:
            # Of a decoder's aggregate only the median is drawn, of an encoder's only the mean.
            raw = None if task == "median" else point.raw
            scaled = None if board.is_encoder else point.scaled
            rows.append(
                {**shared, "series": name, "task": task, "start": point.start, "affected": point.affected}
                | {"plan": point.plan, "seeds": point.seeds}
                | numbers(raw, "score", "score_low", "score_high")
                | numbers(scaled, "normalised", "low", "high")
            )
    if board.is_encoder:
        levels = {"intact": board.intact_mean, "chance": board.chance_mean}
        rows += [{**shared, "series": key, "task": "mean", "score": level} for key, level in levels.items() if level]
    return rows


def _paint_tasks(axes: Axes, board: Board, found: Mapping[str, Curves]) -> None:
    [one] = found.values()
    for number, (task, points) in enumerate(one.tasks.items()):
        color, dashes, marker = look(number)
        style = (color if color != BLACK else "#8c6d31", dashes, marker)
        line(axes, _line(points, board), style, task, width=1.4, faint=0.0)
    line(axes, _line(one.joined, board), (BLACK, "-", "o"), "mean" if board.is_encoder else "median")


def _paint_variants(axes: Axes, board: Board, found: Mapping[str, Curves]) -> None:
    for number, (name, one) in enumerate(found.items()):
        if one.joined:
            line(axes, _line(one.joined, board), look(number), SERIES[name].label, width=2.2, faint=0.12)


def _line(points: Sequence[Point], board: Board) -> list[tuple[float, Estimate]]:
    return [(point.affected, drawn) for point in points if (drawn := point.drawn(board))]


def _frame(axes: Axes, board: Board, found: Mapping[str, Curves]) -> None:
    widths = [len(variants.window(board.num_layers, start)) for start in variants.windows(board.num_layers)]
    whole_ticks(axes, widths)
    axes.set_xlim(min(widths) - 0.6, max(widths) + 0.6)
    axes.set(xlabel=f"layers affected, M (of {board.num_layers})", title=board.title)
    if board.is_encoder:
        axes.set_ylabel("score")
        levels = {"intact": board.intact_mean, "chance": board.chance_mean}
    else:
        axes.set_ylabel("normalised score (1: intact)")
        levels = {"intact": 1.0, "random": 0.0}
    for number, (label, level) in enumerate(levels.items()):
        if level is not None:
            reference(axes, level, label, ((0, (4, 3)), (0, (1, 2)))[number])
    low, high = _limits(board, found)
    heights = [*_heights(board, found), *(level for level in levels.values() if level is not None)]
    spread(axes, [height for height in heights if low <= height <= high])


def _limits(board: Board, found: Mapping[str, Curves]) -> tuple[float, float]:
    """What the y axis may reach: a normalised score is unbounded where the intact model is hardly above chance."""
    return (-1.0, 1.0) if board.is_encoder else (-0.6, 1.6)


def _heights(board: Board, found: Mapping[str, Curves]) -> list[float]:
    """Everything that is drawn: values of tasks where there is one variant, and the aggregate with its bands."""
    alone = list(found.values()) if len(found) == 1 else []
    points = [point for one in alone for points in one.tasks.values() for point in points]
    joined = [estimate for one in found.values() for point in one.joined if (estimate := point.drawn(board))]
    values = [drawn.value for point in points if (drawn := point.drawn(board))]
    return [*values, *(edge for estimate in joined for edge in (estimate.value, *(estimate.band or ())))]
