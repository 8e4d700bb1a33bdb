"""Experiment files: the grid that each describes, the keys of its cells, and errors that name the line."""

from __future__ import annotations

import json
import re
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from support.experiments import BASE, GOOD, of

from painters import variants
from painters.documents import DocumentSelection
from painters.experiment import (
    Cell,
    Chat,
    Experiment,
    ExperimentError,
    Model,
    cell_key,
    cells,
    figure_names,
    find,
    load,
    shipped,
)
from painters.experiment.grid import _ends_and_middles
from painters.experiment.tuning import Tuning
from painters.experiment.yaml import MAX_BYTES
from painters.plan import Plan
from painters.tasks import TaskError


def experiment(*entries: Any, **more: Any) -> Experiment:
    return Experiment.model_validate({**BASE, "variants": list(entries), **more})


def plans(*entries: Any) -> list[Plan]:
    return [point.plan for point in experiment(*entries).grid(6)]


# ---------------------------------------------------------------------------------------------------------- expansion

GRIDS = {
    "a name": (["identity"], ["0-5"]),
    "every start": ([{"name": "skip", "start": "all"}], ["0", "0-1 5", "0-2 4-5"]),
    "its default start": (["skip"], ["0-1 5"]),
    "a list": ([{"name": "skip-layer", "layer": [0, 5]}], ["1-5", "0-4"]),
    "every layer": ([{"name": "skip-layer", "layer": "all"}], ["1-5", "0 2-5", "0-1 3-5", "0-2 4-5", "0-3 5", "0-4"]),
    "every layer but the last": (
        [{"name": "swap", "layer": "all"}],
        ["1 0 2-5", "0 2 1 3-5", "0-1 3 2 4-5", "0-2 4 3 5", "0-3 5 4"],
    ),
    "a range": ([{"name": "parallel", "start": 1, "loops": "1..3"}], ["0-1 {2-4} 5", "0-1 {2-4}*2 5", "0-1 {2-4}*3 5"]),
    "words": ([{"name": "loop", "start": 1, "by": ["block", "layer"]}], ["0-1 (2-4)*2 5", "0-1 2*2 3*2 4*2 5"]),
    "a plan": ([{"plan": "0-2   {3-4}"}], ["0-2 {3-4}"]),
    "in turn": (["identity", {"plan": "5-0"}, {"name": "reverse", "start": 1}], ["0-5", "5-0", "0-1 4-2 5"]),
}  # fmt: skip


@pytest.mark.parametrize("grid", GRIDS)
def test_a_grid_stands_for_these_plans(grid: str) -> None:
    entries, expected = GRIDS[grid]
    assert plans(*entries) == [Plan.parse(text) for text in expected]


def test_two_parameters_make_every_pair() -> None:
    grid = experiment({"name": "parallel", "start": "all", "loops": "1..4"}).grid(12)
    assert {(p.params["start"], p.params["loops"]) for p in grid} == {(n, r) for n in range(6) for r in range(1, 5)}
    for point in grid:
        assert point.plan == variants.build("parallel", 12, **point.params)
        assert point.variant == "parallel"


def test_params_are_whole_where_the_file_leaves_some_out() -> None:
    (point,) = experiment("parallel").grid(12)
    assert point.params == {"start": 3, "loops": 1}


@pytest.mark.parametrize("name", variants.VARIANTS)
@pytest.mark.parametrize("num_layers", [6, 7])
def test_all_is_every_value_that_the_rule_takes(name: str, num_layers: int) -> None:
    for param in ("start", "layer"):
        if param in variants.VARIANTS[name].parameters:
            points = experiment({"name": name, param: "all"}).grid(num_layers)
            taken = []
            for value in range(-1, num_layers + 1):
                try:
                    variants.build(name, num_layers, **{param: value})
                except variants.VariantError:
                    continue
                taken.append(value)
            assert [point.params[param] for point in points] == taken


def test_cells_are_distinct_intact_first_and_in_turn() -> None:
    found = cells(
        experiment(
            {"name": "skip", "start": "all"}, {"name": "reverse", "start": "all"}, {"plan": "0-5"},
            tasks=["nano_arc", "nano_gsm8k"],
        ),
        of(6),
    )  # fmt: skip
    assert [(str(cell.plan), cell.task) for cell in found] == [
        (plan, task)
        for plan in ("0-5", "0", "0 5-1", "0-2 4-5", "0-1 5", "0-1 4-2 5")
        for task in ("nano_arc", "nano_gsm8k")
    ]
    assert len({cell.key for cell in found}) == len(found)
    assert [cell.is_intact for cell in found[:3]] == [True, True, False]
    # the reversed window of one layer is the intact model, which has its name already
    assert (found[0].variant, found[0].params) == ("identity", {})
    assert (found[2].variant, found[2].params) == ("skip", {"start": 0})
    assert found[4].params == {"start": 0}


def test_the_beginning_of_a_sweep_is_spread_over_the_figure() -> None:
    assert _ends_and_middles(9) == [0, 8, 4, 2, 6, 1, 3, 5, 7]
    assert [_ends_and_middles(n) for n in range(4)] == [[], [0], [0, 1], [0, 2, 1]]
    found = cells(experiment({"name": "shuffle", "start": "all", "seed": "0..9"}), of(32))
    assert [cell.params["seed"] for cell in found[1:15]] == [0] * 14  # type: ignore[index]
    assert [cell.params["start"] for cell in found[1:4]] == [0, 7, 3]  # type: ignore[index]


@pytest.mark.parametrize("num_layers", [12, 32])
def test_averaged_cells_are_only_those_that_have_something_to_average(num_layers: int) -> None:
    asked = experiment({"name": "parallel", "start": "all"}, "skip", kv=["exact", "averaged"])
    found = cells(asked, of(num_layers))
    averaged = [cell for cell in found if cell.kv == "averaged"]
    # every window but that of one layer; parallel or not, those have an exact cell too
    assert len(averaged) == num_layers // 2 - 1
    assert not any(cell.plan.is_sequence for cell in averaged)
    only = cells(experiment({"name": "parallel", "start": "all"}, kv="averaged"), of(num_layers))
    assert {cell.kv for cell in only if cell.plan.is_sequence} == {"exact"}


def test_tasks_have_their_own_shots_and_limit() -> None:
    tasks = ["nano_arc", {"name": "nano_gsm8k", "shots": 5, "limit": 10}]
    protocol = {"limit": 100, "shots": 0, "batch_size": 4, "dtype": "float32", "seed": 7}
    one, two = cells(experiment("identity", tasks=tasks, protocol=protocol), of(6))
    assert (one.shots, one.limit, one.batch_size, one.dtype, one.seed) == (0, 100, 4, "float32", 7)
    assert (two.shots, two.limit) == (5, 10)


def test_quick_restricts_the_grid_and_the_documents() -> None:
    whole = experiment(
        {"name": "shuffle", "start": "all", "seed": "0..9"}, "identity",
        tasks=["nano_arc", {"name": "nano_gsm8k", "limit": 10}],
        quick={"limit": 20, "start": [1, 3, 77], "seed": "0..1"},
    )  # fmt: skip
    quick = whole.quickened()
    points = [(point.params.get("start"), point.params.get("seed")) for point in quick.grid(12)]
    assert points == [(1, 0), (3, 0), (1, 1), (3, 1), (None, None)]
    assert {(cell.task, cell.limit) for cell in cells(quick, of(12))} == {("nano_arc", 20), ("nano_gsm8k", 10)}
    with pytest.raises(ExperimentError, match=r"variants.0.start: none of its values is among those of quick.start"):
        quick.grid(2)
    with pytest.raises(ExperimentError, match="this grid has no quick form"):
        experiment("identity").quickened()


def test_another_model_and_fewer_documents() -> None:
    changed = experiment("identity", protocol={"limit": 50}).with_model("other/model", "abc").with_limit(8)
    (cell,) = cells(changed, of(4))
    assert (cell.model, cell.revision, cell.limit, str(cell.plan)) == ("other/model", "abc", 8, "0-3")
    (cell,) = cells(experiment("identity", protocol={"limit": 5}).with_limit(8), of(4))
    assert cell.limit == 5


@pytest.mark.parametrize("name", ["", "x" * 301, "a\x1b[2J"])
def test_a_model_without_a_name(name: str) -> None:
    for ask in (experiment("identity").with_model, experiment("identity").with_encoder):
        with pytest.raises(ExperimentError, match="a name has 1 to 300 characters"):
            ask(name)


def test_drawn_documents_in_place_of_the_first_ones() -> None:
    first = experiment("identity", protocol={"limit": 50})
    drawn = first.with_sample(150, 3)
    (cell,) = cells(drawn, of(4))
    assert (cell.limit, cell.sample, cell.sample_seed) == (None, 150, 3)
    assert cell.protocol.selection == drawn.protocol.selection == DocumentSelection(sample=150, seed=3)
    (smaller,) = cells(drawn.with_limit(40), of(4))
    assert (smaller.limit, smaller.sample, smaller.sample_seed) == (None, 40, 3)
    (reseeded,) = cells(drawn.with_sample(seed=5), of(4))
    assert (reseeded.sample, reseeded.sample_seed) == (150, 5)
    assert first.with_sample(seed=5).protocol == first.protocol  # draws nothing, so there is no seed to change
    (whole,) = cells(experiment("identity", tasks=[{"name": "t", "limit": 7}]).with_sample(150), of(4))
    assert (whole.limit, whole.sample) == (None, 150)
    own = experiment("identity", tasks=["t", {"name": "u", "limit": 7}], protocol={"sample": 150, "sample_seed": 2})
    assert [(cell.limit, cell.sample, cell.sample_seed) for cell in cells(own, of(4))] == [
        (None, 150, 2),
        (7, None, None),
    ]


def test_shares_of_the_documents() -> None:
    def limit(of_file: float | None, asked: float) -> float | None:
        (cell,) = cells(experiment("identity", protocol={"limit": of_file}).with_limit(asked), of(4))
        return cell.limit

    assert limit(None, 0.1) == limit(0.2, 0.1) == limit(0.1, 0.2) == 0.1
    assert limit(300, 0.1) == 0.1  # which of the two is less depends on the task
    assert limit(0.1, 300) == 300
    whole, share = (experiment("identity", protocol={"limit": limit}) for limit in (1, 0.5))
    assert [type(one.protocol.limit) for one in (whole, share)] == [int, float]


@pytest.mark.parametrize(
    ("protocol", "message"),
    [
        (
            {"limit": 3, "sample": 3},
            "line 1: protocol: limit takes the first documents and sample draws some at random",
        ),
        ({"limit": 1.0}, "a share of them between 0 and 1, such as 0.1 .found 1.0."),
        ({"limit": -1}, "a whole number of documents, 1 or more"),
        ({"limit": True}, "a whole number of documents, 1 or more"),
        ({"sample": 0}, "greater than or equal to 1"),
        ({"sample_seed": -1}, "greater than or equal to 0"),
        ({"fewshot_as_multiturn": True}, "set apply_chat_template too"),
        ({"apply_chat_template": 3}, "protocol.apply_chat_template"),
    ],
)
def test_documents_and_prompts_that_cannot_be_asked_for(protocol: dict[str, Any], message: str, tmp_path: Path) -> None:
    fields = {"title": "x", "models": "nano-llama", "tasks": "nano_arc", "variants": ["identity"], "protocol": protocol}
    (tmp_path / "x.yaml").write_text(json.dumps(fields))
    with pytest.raises(ExperimentError, match=message):
        load(tmp_path / "x.yaml")


def test_other_prompts_of_decoders_alone() -> None:
    encoder = {"models": "nano-bert", "tasks": "nano_cola", "tuning": "frozen"}
    changed = experiment("identity", encoder=encoder).with_chat(
        apply_chat_template="tool_use", system_instruction="Hi."
    )
    decoder, encoded = cells(changed, of(12))
    assert decoder.chat == Chat(apply_chat_template="tool_use", system_instruction="Hi.", fewshot_as_multiturn=True)
    assert decoder.protocol.chat == decoder.chat
    assert encoded.chat is None
    with pytest.raises(ExperimentError, match="set apply_chat_template too"):
        experiment("identity").with_chat(fewshot_as_multiturn=True)
    with pytest.raises(ValidationError, match=r"encoder\.protocol\.apply_chat_template"):
        experiment("identity", encoder={**encoder, "protocol": {"apply_chat_template": True}})


def test_several_experiments_share_their_cells() -> None:
    one, two = experiment({"name": "skip", "start": "all"}), experiment({"name": "skip", "start": 1}, title="again")
    assert set(cells([one, two], of(12))) == set(cells(one, of(12)))
    sizes = {"a": 6, "b": 8}
    both = cells(experiment("identity", models=["a", {"name": "b", "num_layers": 3}]), lambda m: sizes[m.name])
    assert [(cell.model, str(cell.plan)) for cell in both] == [("a", "0-5"), ("b", "0-7")]


def test_what_does_not_fit_the_model_is_reported() -> None:
    with pytest.raises(ExperimentError, match=r"variants.0: start 3 leaves no layer to touch in a 6-layer model"):
        experiment({"name": "skip", "start": [1, 3]}).grid(6)
    with pytest.raises(ExperimentError, match=r"variants.1.plan: plan runs layer 6, but the model has 6 layers"):
        experiment("identity", {"plan": "0-9"}).grid(6)
    with pytest.raises(ExperimentError, match="more than 100000 cells"):
        experiment({"name": "shuffle", "start": "all", "seed": "0..9999"}, tasks=[f"t{i}" for i in range(20)]).grid(6)


# --------------------------------------------------------------------------------------------------------------- keys

CELL = Cell("m", None, "auto", Plan.parse("0-3 5"), "exact", "nano_arc", None, 40, 1234, 8, num_layers=6)
OTHERS: dict[str, Any] = {
    "model": "n", "revision": "main", "dtype": "float32", "plan": Plan.parse("0-3"), "kv": "averaged",
    "task": "nano_gsm8k", "shots": 0, "limit": None, "seed": 1, "batch_size": 9,
    "tuning": Tuning(protocol="frozen"), "batching": "shared", "sample": 40, "sample_seed": 0,
    "chat": Chat(apply_chat_template=True, fewshot_as_multiturn=True), "stack": "decoder",
}  # fmt: skip
SAID = {"num_layers": 7, "variant": "skip", "params": {"start": 1}, "source": "a.yaml"}


def test_every_field_of_a_cell_is_in_its_key_or_only_said() -> None:
    assert {field.name for field in fields(Cell)} == set(OTHERS) | set(SAID)
    assert json.loads(CELL.key) == {
        "model": "m", "revision": None, "dtype": "auto", "plan": "0-3 5", "kv": "exact", "task": "nano_arc",
        "shots": None, "limit": 40, "seed": 1234, "batch_size": 8, "tuning": None,
    }  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_the_key_tells_cells_apart(name: str) -> None:
    assert replace(CELL, **{name: OTHERS[name]}).key != CELL.key


def test_the_key_is_stable_text() -> None:
    """A key that changes would make stores look empty."""
    assert replace(CELL, **SAID).key == CELL.key
    expected = '{"model": "m", "revision": null, "dtype": "auto", "plan": "0-3 5", "kv": "exact", "task": "nano_arc", '
    assert CELL.key == expected + '"shots": null, "limit": 40, "seed": 1234, "batch_size": 8, "tuning": null}'
    assert CELL.key == cell_key(**json.loads(CELL.key))


def test_a_scoring_in_lm_evals_batches_answers_for_shared_ones() -> None:
    shared = replace(CELL, batching="shared")
    assert shared.keys == (shared.key, CELL.key)
    assert CELL.keys == (CELL.key,)
    assert shared.key == cell_key(**json.loads(shared.key))


def test_only_decoders_share_batches_and_not_where_they_must_be_exact() -> None:
    def batching(one: Experiment) -> set[str]:
        return {cell.batching for cell in cells(one, of(12))}

    one = experiment("identity")
    assert batching(one) == {"shared"}
    assert batching(one.with_exact_batching()) == {"lm-eval"}
    assert batching(experiment("identity", protocol={"exact_batching": True})) == {"lm-eval"}
    encoder = {"models": "nano-bert", "tasks": "nano_cola", "tuning": "frozen"}
    asked = cells(experiment("identity", encoder=encoder), of(12))
    assert {(cell.tuning is None, cell.batching) for cell in asked} == {(True, "shared"), (False, "lm-eval")}


# -------------------------------------------------------------------------------------------------------------- files

# name: (what in GOOD is replaced, by what, the line, what the message says besides)
BAD = {
    "not YAML": ("[nano_arc]", "[nano_arc", 5, ("not YAML",)),
    "a tab": ("  limit", "\tlimit", 10, ("not YAML", "\\t")),
    "an unknown field": ("title:", "titel: x\ntitle:", 1, ("titel", "there is no such field")),
    "a field of its own": ("title:", "included: []\ntitle:", 1, ("included", "there is no such field")),
    "an unknown field of the protocol": ("limit", "limits", 10, ("protocol.limits", "no such field")),
    "a field twice": ("figure: 4", "title: b", 2, ("'title' is there twice",)),
    "no title": ("title: a grid\n", "", 1, ("title", "missing")),
    "a title of another kind": ("a grid", "[1]", 1, ("title", "string")),
    "an escape code": ("a grid", '"\\e[31m"', 1, ("title",)),
    "no tasks": ("[nano_arc]", "[]", 1, ("tasks must name at least one",)),
    "a task twice": ("[nano_arc]", "[nano_arc, nano_arc]", 1, ("tasks lists one entry twice",)),
    "a model that is a number": ("[nano-llama]", "[3]", 3, ("models.0",)),
    "an unknown variant": ("skip", "skp", 6, ("variants.0", "'skp'", "did you mean 'skip'")),
    "a parameter of another variant": ("start: all", "loops: 3", 6, ("takes no parameter 'loops'", "start")),
    "a value that is none": ("all", "every", 7, ("variants.0.start", "'every'", "0..9, or all")),
    "a float": ("all", "1.5", 7, ("variants.0.start", "1.5", "whole number")),
    "a truth value": ("all", "yes", 7, ("variants.0.start", "True")),
    "a range backwards": ("1..3", "3..1", 8, ("variants.1.loops", "3..1", "smaller number")),
    "an enormous range": ("1..3", "1..999999999", 8, ("variants.1.loops", "10000")),
    "all of what has no end": ("1..3", "all", 8, ("variants.1", "loops: all", "range")),
    "no values": ("all", "[]", 7, ("variants.0.start", "1 or more")),
    "a value twice": ("all", "[1, 1]", 7, ("variants.0.start", "each once")),
    "a malformed plan": ("{name: parallel, loops: 1..3}", '{plan: "0-3 {4"}', 8, ("variants.1", "^")),
    "a plan and a variant": ("loops: 1..3", "plan: 0-3", 8, ("either",)),
    "a plan with a parameter": ("name: parallel", "plan: 0-3", 8, ("'loops' belongs to a variant",)),
    "a limit of nothing": ("40", "0", 10, ("protocol.limit", "a whole number of documents, 1 or more")),
    "a limit that is true": ("40", "true", 10, ("protocol.limit", "a whole number of documents, 1 or more")),
    "an unknown dtype": ("limit: 40", "dtype: int3", 10, ("protocol.dtype", "float32", "'int3'")),
    "an unknown cache": ("figure: 4", "kv: mean", 2, ("kv.0", "averaged", "'mean'")),
    "an alias": ("[nano_arc]", "&a [nano_arc, *a]", 4, ("anchors and aliases",)),
    "a tag": ("a grid", "!!python/object/apply:os.system [exit]", 1, ("tags (!)",)),
    "deep nesting": ("a grid", "[" * 9 + "]" * 9, 1, ("nested more than 8",)),
    "an include that leaves the folder": ("figure: 4", "include: [../secrets]", 2, ("include.0",)),
    "an include that is not there": ("figure: 4", "include: [fig99]", 2, ("no fig99.yaml beside",)),
    "a task that leaves the folder": ("nano_arc", "../../t.yaml", 4, ("tasks", "leaves the experiment's folder")),
    "a number that is none": ("40", "0x" + "f" * 9000, 10, ("a number of 36000 bits",)),
    "inputs that leave the folder": (
        "figure: 4", "similarity: {models: m, inputs: ../x.txt}", 2, ("similarity.inputs", "leaves the experiment's")
    ),
    "a date that is none": ("a grid", "2026-02-31", 1, ("not YAML",)),
}  # fmt: skip


@pytest.mark.parametrize("mistake", BAD)
def test_a_mistake_is_reported_with_its_line(mistake: str, tmp_path: Path) -> None:
    old, new, line, says = BAD[mistake]
    assert old in GOOD
    path = tmp_path / "grid.yaml"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ExperimentError) as raised:
        load(path)
    message = str(raised.value)
    assert message.startswith("experiment grid.yaml")
    assert f"line {line}:" in message
    for words in says:
        assert words in message, message
    assert raised.value.exit_code == 2
    assert "pydantic" not in message


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"- a\n- b\n", "no mapping"),
        (b"title: \xff\n", "line 1: not UTF-8"),
        (b"title: a\x00b\n", "not YAML"),
        (b"a" * (MAX_BYTES + 1), "longer than"),
        (b"? [a]\n: b\n", "a name of a field must be a word"),
        (b"title: a\n", "needs models, tasks and variants"),
        (b"title: a\ninclude: [b]\nkv: exact\n", "kv belongs to a grid"),
    ],
)
def test_a_file_that_is_no_experiment(data: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(data)
    with pytest.raises(ExperimentError, match=says):
        load(tmp_path / "x.yaml")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"cannot be read \(No such file or directory\)"):
        load(tmp_path / "none.yaml")
    (tmp_path / "x.yaml").mkdir()
    with pytest.raises(ExperimentError, match=r"cannot be read \(Is a directory\)"):
        load(tmp_path / "x.yaml")
    with pytest.raises(ExperimentError, match=r"neither a .yaml file nor one that comes with painters \(.*fig4"):
        find("fig77")


def test_no_file_takes_long(tmp_path: Path) -> None:
    for text in (
        "[" * 30_000,
        "{a: " * 8_000,
        "a: 1\n" * 6_000,
        "- " * 16_000,
        "title: " + "x" * 32_000,
        "&a " * 10_000,
    ):
        (tmp_path / "x.yaml").write_text(text)
        began = time.process_time()
        with pytest.raises(ExperimentError):
            load(tmp_path / "x.yaml")
        assert time.process_time() - began < 2


def test_included_files_bring_their_cells(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(GOOD)
    (tmp_path / "two.yaml").write_text(GOOD.replace("skip", "reverse"))
    (tmp_path / "both.yaml").write_text("title: both\nfigure: 11\ninclude: [one, two]\n")
    one, two, both = (load(tmp_path / f"{name}.yaml") for name in ("one", "two", "both"))
    keys = {cell.key for cell in cells(both, of(12))}
    assert keys == {cell.key for cell in (*cells(one, of(12)), *cells(two, of(12)))}
    assert {cell.model for cell in cells(both.with_model("x"), of(12))} == {"x"}
    assert {cell.limit for cell in cells(both.with_limit(3), of(12))} == {3}
    (tmp_path / "three.yaml").write_text("title: three\ninclude: [both]\n")
    with pytest.raises(ExperimentError, match="both includes other files itself"):
        load(tmp_path / "three.yaml")


def test_a_task_by_its_file(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(GOOD.replace("nano_arc", "tasks/mine.yaml"))
    cell = cells(load(tmp_path / "grid.yaml"), of(12))[0]
    assert (cell.task, cell.source) == ("mine", str(tmp_path / "tasks" / "mine.yaml"))
    assert str(tmp_path) not in cell.key


# ------------------------------------------------------------------------------------------------------- similarities

ALIKE = "title: t\nsimilarity: {models: [a], encoders: [b], inputs: nano_lambada, modes: [flat, token]}\n"


def test_similarities_are_asked_of_decoders_and_encoders(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(ALIKE)
    found = load(tmp_path / "grid.yaml")
    [asked] = found.similarities
    assert (asked.limit, asked.batch_size, asked.modes) == (100, 8, ("flat", "token"))
    assert cells(found, of(12)) == ()
    [other] = found.with_model("x").with_encoder("y").with_limit(7).with_dtype("float16").similarities
    assert ([m.name for m in other.models], [m.name for m in other.encoders]) == (["x"], ["y"])
    assert (other.limit, other.dtype) == (7, "float16")
    assert found.without_encoders().similarities[0].encoders == ()
    assert found.asks(encoders=True)
    assert not found.without_encoders().asks(encoders=True)


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        ("models: [a], encoders: [b], ", "models or encoders must name at least one"),
        ("token", "similarity.modes"),
        ("inputs: nano_lambada, ", "inputs"),
    ],
)
def test_malformed_similarities_are_refused(tmp_path: Path, removed: str, message: str) -> None:
    (tmp_path / "grid.yaml").write_text(ALIKE.replace(removed, "tokens" if removed == "token" else ""))
    with pytest.raises(ExperimentError, match=re.escape(message)):
        load(tmp_path / "grid.yaml")


def test_documents_of_ones_own_stand_in_for_tasks(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(GOOD)
    (tmp_path / "nano_arc").mkdir()
    (tmp_path / "nano_arc" / "test.jsonl").write_text("{}\n")
    found = load(tmp_path / "grid.yaml").with_data(tmp_path)
    own = {cell.source for cell in cells(found, of(12)) if cell.task == "nano_arc"}
    assert own == {str(tmp_path / "nano_arc")}
    assert {cell.key for cell in cells(found, of(12))} == {c.key for c in cells(load(tmp_path / "grid.yaml"), of(12))}


@pytest.mark.parametrize("name", ["..", "."])
def test_no_task_leads_out_of_the_folder_of_documents(name: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    asked = experiment("identity", tasks=name, similarity={"models": "nano-llama", "inputs": "../secret"})
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "test.jsonl").write_text("{}\n")
    with pytest.raises(TaskError, match="has no"):
        asked.with_data(tmp_path / "data")
    found = experiment("identity", tasks="nano_arc", similarity={"models": "nano-llama", "inputs": "../secret"})
    similarity = found.with_data(tmp_path / "data").similarity
    assert similarity is not None
    assert similarity.inputs == "../secret"


def test_a_task_that_the_folder_of_documents_lacks(tmp_path: Path) -> None:
    """It is not looked for on the hub without a word; bundled tasks keep the documents that come with painters."""
    (tmp_path / "arc_easy").mkdir()
    (tmp_path / "arc_easy" / "test.jsonl").write_text("{}\n")
    asked = experiment("identity", tasks=["arc_easy", "nano_arc", "piqa"])
    with pytest.raises(TaskError, match=r"has no piqa: it has arc_easy\."):
        asked.with_data(tmp_path)
    found = experiment("identity", tasks=["arc_easy", "nano_arc"]).with_data(tmp_path)
    assert [task.name for task in found.tasks] == [str(tmp_path / "arc_easy"), "nano_arc"]


@pytest.mark.parametrize("name", ["a.b.yaml", "dotted.v1"])
def test_a_path_with_dots_keeps_the_name_of_its_task(name: str) -> None:
    (cell, *_) = cells(experiment("identity", tasks=f"data/{name}"), of(12))
    assert cell.task == name.removesuffix(".yaml")


def test_inputs_in_a_file_lie_beside_the_experiment(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(GOOD + "similarity: {models: nano-llama, inputs: some.txt}\n")
    similarity = load(path).similarity
    assert similarity is not None
    assert similarity.inputs == str(tmp_path / "some.txt")


def test_billions_of_cells_are_refused_before_one_is_made() -> None:
    asked = experiment({"name": "parallel", "start": "0..9999", "loops": "1..9999"}, {"name": "skip"})
    start = time.process_time()
    with pytest.raises(ExperimentError, match=r"variants\.0: with 99990000 points the experiment has more than 100000"):
        asked.grid(12)
    assert time.process_time() - start < 0.1


# ------------------------------------------------------------------------------------------------------------ shipped

FIGURES = list(range(2, 15))
SIMILARITIES = (3, 14)


def test_there_is_an_experiment_for_every_figure_here_and_in_the_paper() -> None:
    assert list(shipped()) == [*(f"fig{n}" for n in FIGURES), *(f"paper/fig{n}" for n in FIGURES)]


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_experiment_is_sound(name: str) -> None:
    found = load(name)
    assert found.name == name
    assert name.endswith(f"fig{found.figure}")
    if found.figure in SIMILARITIES:
        assert found.similarities
        assert not found.parts
        return
    size = 32 if name.startswith("paper") else 12
    whole, quick = cells(found, of(size)), cells(found.quickened(), of(size))
    assert 1 < len(quick) <= len(whole)
    assert whole[0].is_intact
    assert len(cells(found.quickened(), of(16))) > 1  # of a model of another size too
    limits = {cell.limit for cell in whole}
    assert limits == ({None} if name.startswith("paper") else {300})


def test_the_figures_of_all_variants_reuse_the_cells_of_their_own() -> None:
    own = {cell.key for n in range(4, 10) for cell in cells(load(f"fig{n}"), of(12))}
    assert {cell.key for cell in cells(load("fig11"), of(12))} == own
    assert own < {cell.key for cell in cells(load("fig13"), of(12))}


def test_the_papers_settings_are_the_papers() -> None:
    found = cells(load("paper/fig10"), lambda model: model.num_layers or 0)
    assert {(cell.model, cell.dtype, cell.batch_size) for cell in found} == {("meta-llama/Llama-2-7b-hf", "float16", 8)}
    assert {cell.task: cell.shots for cell in found} == {
        "arc_challenge": 0, "hellaswag": 0, "gsm8k": 5, "winogrande": 0, "lambada_openai": 0,
    }  # fmt: skip
    points = load("paper/fig10").grid(32)
    widths = {len(variants.window(32, int(point.params["start"]))) for point in points}
    assert widths == set(range(1, 32, 2))
    assert {point.params["loops"] for point in points} == set(range(1, 29))
    shuffles = load("paper/fig7").grid(32)
    assert {point.params["seed"] for point in shuffles} == set(range(10))


def test_models_state_their_size_for_planning_only() -> None:
    found = cells(experiment("identity", models={"name": "x", "num_layers": 3}), of(5))
    assert str(found[0].plan) == "0-4"
    assert Model(name="x").num_layers is None


@pytest.mark.parametrize("name", ["4", "04", "fig4", "fig04", "FIG4", "Fig. 4", "figure 4", "Figure-4", "fig_4"])
def test_a_figure_has_one_name_in_all_spellings(name: str) -> None:
    from painters.figures import numbers
    from painters.sweep import load_experiments, records_folder

    assert figure_names([name]) == ["fig4"]
    assert numbers([name]) == [4]
    assert [experiment.name for experiment in load_experiments([name])] == ["fig4"]
    assert records_folder([name]).as_posix() == "runs/fig4"
    assert load(name).name == "fig4"


def test_the_words_of_a_command_line_name_figures() -> None:
    assert figure_names(["figure", "4", "fig.", "05", "paper/fig06"]) == ["fig4", "fig5", "paper/fig6"]
    assert figure_names(["4.yaml", "figures", "mine"]) == ["4.yaml", "figures", "mine"]
