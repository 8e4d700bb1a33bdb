"""The section `encoder` of an experiment is a grid of its own, and the shipped files travel in the wheel."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from support.experiments import BASE, GOOD, of

from painters import variants
from painters.experiment import Cell, Experiment, ExperimentError, cells, load, shipped
from painters.experiment.tuning import Tuning

ROOT = Path(__file__).parents[2]
ENCODER = {"models": "tiny-bert", "tasks": ["one", "two"], "tuning": ["retuned", {"protocol": "frozen", "epochs": 1}]}


def experiment(encoder: dict[str, Any], **more: Any) -> Experiment:
    fields = {**BASE, "variants": [{"name": "skip", "start": "all"}], **more}
    return Experiment.model_validate({**fields, "encoder": {**ENCODER, **encoder}})


def sizes(model: Any) -> int:
    return {"nano-llama": 4}.get(model.name, 6)


def encoders(found: Experiment) -> list[Cell]:
    return [cell for cell in cells(found, sizes) if cell.tuning is not None]


def test_encoders_follow_decoders_each_with_its_intact_model_first() -> None:
    found = cells([experiment({}), experiment({}, models=["nano-llama", "other"])], sizes)
    assert [(c.model, str(c.plan), c.task, c.tuning.protocol if c.tuning else None) for c in found] == [
        *(("nano-llama", plan, "nano_arc", None) for plan in ("0-3", "0", "0-1 3")),
        *(("other", plan, "nano_arc", None) for plan in ("0-5", "0", "0-2 4-5", "0-1 5")),
        *(
            ("tiny-bert", plan, task, protocol)
            for plan in ("0-5", "0", "0-2 4-5", "0-1 5")
            for protocol in ("retuned", "frozen")
            for task in ("one", "two")
        ),
    ]
    assert {(c.kv, c.shots, c.seed, c.batch_size) for c in found if c.tuning} == {("exact", None, 42, 32)}
    assert len({cell.key for cell in found}) == len(found)
    assert str(found[-1]) == "skip start=1 on two, frozen"


def test_encoders_have_variants_and_protocol_of_their_own() -> None:
    (cell,) = encoders(
        experiment({"variants": "identity", "tasks": "one", "tuning": "frozen", "protocol": {"limit": 9, "seed": 1}})
    )
    assert (cell.limit, cell.seed, cell.batch_size, cell.variant) == (9, 1, 32, "identity")
    assert cell.tuning == Tuning(protocol="frozen", rate=3e-2)
    alone = Experiment.model_validate({"title": "a", "encoder": {**ENCODER, "variants": "identity"}})
    assert len(cells(alone, sizes)) == 4


def test_quick_trains_an_encoder_less() -> None:
    quick = experiment(
        {"quick": {"limit": 5, "documents": 40, "start": [0, 2], "epochs": 2}, "tuning": [
            {"protocol": "retuned", "documents": 30, "epochs": 7}, {"protocol": "frozen", "epochs": 1}]},
        quick={"limit": 3, "start": [1]},
    ).quickened()  # fmt: skip
    found = encoders(quick)
    assert {(c.tuning.protocol, c.tuning.epochs, c.tuning.documents) for c in found if c.tuning} == {
        ("retuned", 2, 30), ("frozen", 1, 40)}  # fmt: skip
    assert {cell.limit for cell in found} == {5}
    assert {(cell.params or {}).get("start") for cell in found} == {None, 0, 2}
    assert {cell.limit for cell in cells(quick, sizes) if not cell.tuning} == {3}
    with pytest.raises(ExperimentError, match=r"encoder.this grid has no quick form"):
        experiment({}, quick={"limit": 3}).quickened()


def test_decoders_and_encoders_are_exchanged_one_without_the_other() -> None:
    whole = experiment({})
    assert {cell.model for cell in cells(whole.with_model("x"), sizes)} == {"x", "tiny-bert"}
    assert {cell.model for cell in cells(whole.with_encoder("y", "main"), sizes)} == {"nano-llama", "y"}
    assert {cell.revision for cell in encoders(whole.with_encoder("y", "main"))} == {"main"}
    assert {cell.model for cell in cells(whole.without_encoders(), sizes)} == {"nano-llama"}
    assert {cell.limit for cell in cells(whole.with_limit(2), sizes)} == {2}
    assert {cell.dtype for cell in cells(whole.with_dtype("float16"), sizes)} == {"float16"}
    assert {cell.batch_size for cell in encoders(whole.with_dtype("float16"))} == {32}
    alone = Experiment.model_validate({"title": "a", "encoder": {**ENCODER, "variants": "identity"}})
    with pytest.raises(ExperimentError, match="only encoders"):
        alone.without_encoders()


WRITTEN = """\
encoder:
  models: [tiny-bert]
  tasks: [nano_cola]
  tuning:
    - {protocol: frozen, epochs: 3}
"""
# name: (what is replaced, by what, the line, what the message says besides)
BAD = {
    "no models": ("models: [tiny-bert]", "models: []", 11, ("encoder", "models must name at least one")),
    "no tuning": ("    - {protocol: frozen, epochs: 3}\n", "", 14, ("encoder.tuning",)),
    "an unknown protocol": ("protocol: frozen", "protocol: thawed", 15, ("tuning.0.protocol", "'retuned'", "thawed")),
    "a rate too high": ("epochs: 3", "rate: 11", 15, ("tuning.0.rate", "less than or equal to 10")),
    "an unknown field": ("epochs: 3", "epoch: 3", 15, ("tuning.0.epoch", "no such field")),
    "a tuning twice": ("[nano_cola]", "[a, a]", 11, ("encoder", "tasks lists one entry twice")),
    "shots": ("[nano_cola]", "{name: cola, shots: 2}", 11, ("encoder", "no shots and no YAML")),
    "shots of all": ("tasks:", "protocol: {shots: 0}\n  tasks:", 13, ("encoder.protocol.shots",)),
    "a cache": ("tasks:", "kv: averaged\n  tasks:", 13, ("encoder.kv", "no such field")),
    "a file": ("[nano_cola]", "[a.yaml]", 11, ("no shots and no YAML",)),
}  # fmt: skip


@pytest.mark.parametrize("mistake", BAD)
def test_a_mistake_is_reported_with_its_line(mistake: str, tmp_path: Path) -> None:
    old, new, line, says = BAD[mistake]
    assert old in WRITTEN
    path = tmp_path / "grid.yaml"
    path.write_text(GOOD + WRITTEN.replace(old, new, 1))
    with pytest.raises(ExperimentError) as raised:
        load(path)
    message = str(raised.value)
    assert f"line {line}:" in message, message
    for words in says:
        assert words in message, message


def test_an_encoders_task_may_be_a_folder_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(GOOD + WRITTEN.replace("nano_cola", "data/cola"))
    cell = cells(load(tmp_path / "grid.yaml"), of(12))[-1]
    assert (cell.task, cell.source) == ("cola", str(tmp_path / "data" / "cola"))
    (tmp_path / "grid.yaml").write_text(GOOD + WRITTEN.replace("nano_cola", "../cola"))
    with pytest.raises(ExperimentError, match="leaves the experiment's folder"):
        load(tmp_path / "grid.yaml")


def test_encoders_need_variants_from_somewhere(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text("title: a\n" + WRITTEN)
    with pytest.raises(ExperimentError, match="encoder: variants must name at least one"):
        load(tmp_path / "grid.yaml")


PANELS = [4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("figure", PANELS)
def test_the_figures_with_two_panels_have_encoders_of_the_same_variants(figure: int) -> None:
    for name, model, tasks in (
        (f"fig{figure}", "nano-bert", "nano_cola nano_sst2 nano_rte nano_paraphrase nano_sts"),
        (f"paper/fig{figure}", "google-bert/bert-large-uncased", "cola mrpc qnli rte sst2 stsb wnli"),
    ):
        found = cells(load(name), lambda model: 24 if "bert" in model.name else 32)
        tuned = [cell for cell in found if cell.tuning]
        assert {cell.model for cell in tuned} == {model}
        assert {cell.task for cell in tuned} == set(tasks.split())
        assert {cell.tuning.protocol for cell in tuned if cell.tuning} == {"retuned", "frozen"}
        starts = {(cell.params or {}).get("start") for cell in tuned}
        # the intact model is every reordered window of one layer
        assert starts - {None} >= set(variants.windows(24)[:-1])
        assert {cell.variant for cell in tuned} == {cell.variant for cell in found if not cell.tuning}


def test_the_papers_encoders_learn_as_the_paper_says() -> None:
    found = [cell for cell in cells(load("paper/fig11"), of(24)) if cell.tuning]
    assert {(cell.limit, cell.seed, cell.batch_size) for cell in found} == {(None, 42, 32)}
    assert {cell.tuning for cell in found} == {
        Tuning(protocol="retuned", epochs=3, rate=2e-5, batch_size=32, max_length=128),
        Tuning(protocol="frozen", epochs=3, rate=3e-2, batch_size=32, max_length=128),
    }


@pytest.mark.parametrize("name", ["fig2", "fig10", "fig12", "paper/fig2", "paper/fig10", "paper/fig12"])
def test_the_other_figures_have_none(name: str) -> None:
    assert load(name).encoder is None


@pytest.mark.slow
def test_the_wheel_carries_the_experiments(tmp_path: Path) -> None:
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", str(tmp_path))
    source = tmp_path / "source"  # a build leaves folders beside what it builds
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(source)], check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        files = set(archive.namelist())
        archive.extractall(tmp_path / "installed")
    assert {f"painters/experiments/{name}.yaml" for name in shipped()} <= files
    expected = {str(path.relative_to(source)) for path in (source / "painters").rglob("*") if path.is_file()}
    assert not expected - files, "name the package in pyproject.toml, or what data it has"
    installed = tmp_path / "installed"
    code = f"import sys; sys.path[:0] = {[str(installed), *sys.path]!r}; from painters.experiment import *"
    code += "; print(find('fig4'), len(shipped()), load('fig11').name)"
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    where, count, name = done.stdout.split()
    assert Path(where) == installed / "painters" / "experiments" / "fig4.yaml"
    assert (int(count), name) == (len(shipped()), "fig11")
