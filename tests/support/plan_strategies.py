"""hypothesis strategies for plans, shared by every test that must hold for any plan."""

from __future__ import annotations

from hypothesis import strategies as st

from painters.plan import HALVES, MERGES, Layer, Parallel, Plan, Step


def plans(num_layers: int, max_runs: int, halves: bool = False) -> st.SearchStrategy[Plan]:
    """Plans over a stack of `num_layers` with at most `max_runs` layer runs: repeats, ranges, nested groups.

    With `halves` some steps run only the attention or only the MLP half of a layer.
    """
    return sequences(num_layers, max_runs, halves).map(Plan)


@st.composite
def sequences(draw: st.DrawFn, num_layers: int, max_runs: int, halves: bool, nesting: int = 0) -> tuple[Step, ...]:
    """Steps with 1 to `max_runs` layer runs; repeats and ranges are drawn as such, to be common."""
    steps: list[Step] = []
    left = draw(st.integers(1, max_runs))
    while left > 0:
        unit, runs = draw(_units(num_layers, left, halves, nesting))
        times = draw(st.integers(1, min(3, left // runs)))
        steps += unit * times
        left -= runs * times
        if draw(st.booleans()):
            break
    return tuple(steps)


@st.composite
def _units(draw: st.DrawFn, num_layers: int, max_runs: int, halves: bool, nesting: int) -> tuple[tuple[Step, ...], int]:
    kind = draw(st.sampled_from(["range", "layers", "group"] if nesting < 3 and max_runs > 1 else ["range", "layers"]))
    half = draw(st.sampled_from((None, *HALVES))) if halves else None
    index = st.integers(0, num_layers - 1)
    if kind == "layers":
        indices = draw(st.lists(index, min_size=1, max_size=min(max_runs, 6)))
        return tuple(Layer(index, half) for index in indices), len(indices)
    if kind == "range":
        first = draw(index)
        step = draw(st.sampled_from((1, -1)))
        room = num_layers - first if step == 1 else first + 1
        count = draw(st.integers(1, min(max_runs, room)))
        return tuple(Layer(first + step * place, half) for place in range(count)), count
    width = draw(st.integers(1, min(4, max_runs)))
    branches = tuple(draw(sequences(num_layers, max_runs // width, halves, nesting + 1)) for _ in range(width))
    group = Parallel(branches, draw(st.sampled_from(MERGES)))
    return (group,), group.size.layer_runs
