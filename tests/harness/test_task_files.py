"""Task files as lm-eval has them: documents in many formats, includes, groups, tags, inline tasks; Python refused."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import lm_eval.tasks
import pytest

from painters import harness
from painters.harness import task_index
from painters.tasks import TaskError, TaskUnavailableError

ROWS = [{"q": f"{i} lamps are Tom's. He has", "a": f" {i} lamps", "wrong": f" {i + 1} lamps"} for i in range(1, 7)]
BODY = """output_type: multiple_choice
doc_to_text: "{{q}}"
doc_to_choice: "{{[a, wrong]}}"
doc_to_target: 0
metric_list: [{metric: acc}]
"""


def document(kind: str, files: str, split: str = "test", more: str = "") -> str:
    return f"dataset_path: {kind}\ndataset_kwargs: {{data_files: {files}{more}}}\ntest_split: {split}\n"


DATA = document("json", "{test: d.jsonl}")


@pytest.fixture(scope="module")
def formats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with documents in every format."""
    tmp_path = tmp_path_factory.mktemp("formats")
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    (tmp_path / "d.jsonl").write_text(lines)
    (tmp_path / "d.json").write_text(json.dumps(ROWS, indent=1))
    (tmp_path / "field.json").write_text(json.dumps({"data": ROWS}))
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "1.jsonl").write_text("".join(line + "\n" for line in lines.splitlines()[:2]))
    (tmp_path / "parts" / "2.jsonl").write_text("".join(line + "\n" for line in lines.splitlines()[2:]))
    for suffix, compress in ((".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)):
        (tmp_path / f"d.jsonl{suffix}").write_bytes(compress(lines.encode()))
    (tmp_path / "d.txt").write_text("".join(row["q"] + "\n" for row in ROWS))
    (tmp_path / "timed.jsonl").write_text('{"q": "On", "a": " 1", "wrong": " 2", "date": "2020-01-02T03:04:05"}\n')
    table = datasets.Dataset.from_list(ROWS)
    table.to_csv(tmp_path / "d.csv")
    table.to_csv(tmp_path / "d.tsv", sep="\t")
    table.to_parquet(tmp_path / "d.parquet")
    table.save_to_disk(tmp_path / "saved")
    datasets.DatasetDict({"test": table}).save_to_disk(tmp_path / "both")
    return tmp_path


@pytest.fixture
def folder(formats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, which is the working directory, as lm-eval needs it."""
    tmp_path = Path(shutil.copytree(formats, tmp_path / "tasks"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(task_index, "index", lambda: lm_eval.tasks.TaskManager(include_defaults=False))
    return tmp_path


def digest_of(folder: Path, name: str, text: str) -> str:
    """The digest of the requests of a task with this text."""
    (folder / f"{name}.yaml").write_text(f"task: {name}\n{text}")
    (task,) = harness.prepare(str(folder / f"{name}.yaml"))
    return task.digest


def hf_digest(folder: Path, name: str) -> str:
    """The same of the task as lm-eval itself loads it and builds its requests."""
    from painters.harness.tasks import _digest

    manager = lm_eval.tasks.TaskManager(include_defaults=False)
    ((_, task),) = manager.load([str(folder / f"{name}.yaml")])["tasks"].items()
    task.set_config("num_fewshot", task.get_config("num_fewshot") or 0)
    task.build_all_requests()
    return _digest(task)


FORMATS = {
    "lines": document("json", "{test: d.jsonl}"),
    "list": document("json", "{test: [parts/1.jsonl, parts/2.jsonl]}"),
    "one_for_all": document("json", "d.jsonl", "train"),
    "list_for_all": document("json", "[parts/1.jsonl, parts/2.jsonl]", "train"),
    "pattern": document("json", "{test: parts/*.jsonl}"),
    "array": document("json", "{test: d.json}"),
    "field": document("json", "{test: field.json}", more=", field: data"),
    "gzip": document("json", "{test: d.jsonl.gz}"),
    "bzip2": document("json", "{test: d.jsonl.bz2}"),
    "xz": document("json", "{test: d.jsonl.xz}"),
    "csv": document("csv", "{test: d.csv}"),
    "tsv": document("csv", "{test: d.tsv}", more=', sep: "\\t"'),
    "parquet": document("parquet", "{test: d.parquet}"),
    "arrow": document("arrow", "{test: saved/data-00000-of-00001.arrow}"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_documents_are_read_as_lm_eval_reads_them(name: str, folder: Path) -> None:
    expected = digest_of(folder, "plain", FORMATS["lines"] + BODY)
    assert digest_of(folder, name, FORMATS[name] + BODY) == expected == hf_digest(folder, name)


def test_lines_of_text_and_dates_are_read_as_lm_eval_reads_them(folder: Path) -> None:
    text = document("text", "{test: d.txt}") + BODY.replace("{{q}}", "{{text}}").replace("[a, wrong]", "['a', 'b']")
    assert digest_of(folder, "texts", text) == hf_digest(folder, "texts")
    text = document("json", "{test: timed.jsonl}") + BODY.replace("{{q}}", "{{date}}")
    assert digest_of(folder, "timed", text) == hf_digest(folder, "timed")
    (task,) = harness.prepare(str(folder / "timed.yaml"))
    assert task.requests[0].args[0] == "2020-01-02 03:04:05"


@pytest.mark.parametrize("name", ["saved", "both", "./saved", "named"])
def test_folders_that_datasets_saved(name: str, folder: Path) -> None:
    """lm-eval refuses these, and `datasets` has no other name for them."""
    (folder / "named").mkdir()
    (folder / "named" / "test-00000-of-00001.parquet").write_bytes((folder / "d.parquet").read_bytes())
    expected = digest_of(folder, "plain", DATA + BODY)
    assert digest_of(folder, "mine", f"dataset_path: {name}\ntest_split: test\n{BODY}") == expected


def test_nothing_is_left_in_the_cache(folder: Path) -> None:
    digest_of(folder, "plain", DATA + BODY)
    assert not (folder / "cache").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (document("json", "{test: gone.jsonl}"), r"'mine' needs gone\.jsonl beside its YAML, and that file is missing"),
        (document("json", "{test: parts}"), r"needs parts beside its YAML, and that is a folder"),
        (document("json", "{test: no*.jsonl}"), r"no file beside its YAML is named like no\*\.jsonl"),
        (document("json", "{test: 'https://x.org/d.jsonl'}"), r"https://x\.org/d\.jsonl is a URL: download it"),
        (document("json", "{test: 7}"), "its documents are not named: give a file under dataset_kwargs"),
        (document("json", "{test: ../d.jsonl}"), "leaves the folder of its YAML"),
        (document("json", "{test: '../*.jsonl'}"), "leaves the folder of its YAML"),
        (document("json", "{test: /etc/hosts}"), "leaves the folder of its YAML"),
        ("dataset_path: ../\ntest_split: test\n", "leaves the folder of its YAML"),
        ("dataset_path: ./gone\ntest_split: test\n", r"in .*gone is no data set that `datasets` saved"),
        (document("json", "{test: bad.jsonl}"), r"line 2 of bad\.jsonl is not JSON"),
        (document("json", "{test: deep.jsonl}"), r"line 1 of deep\.jsonl is not JSON"),
        (document("json", "{test: d.parquet}"), r"d\.parquet cannot be read: UnicodeDecodeError"),
        (document("parquet", "{test: d.jsonl}"), r"d\.jsonl cannot be read as parquet: ArrowInvalid"),
        (document("csv", "{test: empty.csv}"), r"empty\.csv holds no documents"),
        (document("json", "{test: empty.csv}"), r"empty\.csv holds no documents"),
        (document("json", "{train: d.jsonl}"), "test_split is 'test', and its documents are split into 'train'"),
        (document("pandas", "{test: d.pkl}"), "in the format 'pandas' are not read here. painters reads json, csv"),
        ("test_split: test\n", "names no documents: give dataset_path: json"),
        ("dataset_path: json\ntest_split: test\n", "its documents are not named"),
        (DATA.replace("test_split: test\n", ""), "names no documents to score: give test_split:"),
        (DATA + "shots: 5\n", "lm-eval's tasks have no field shots"),
    ],
)
def test_documents_that_cannot_be_read(text: str, message: str, folder: Path) -> None:
    (folder / "bad.jsonl").write_text('{"q": 1}\n{"q"\n')
    (folder / "deep.jsonl").write_text("[" * 100_000)
    (folder / "empty.csv").write_text("")
    with pytest.raises(TaskError, match=message):
        digest_of(folder, "mine", text + BODY)


@pytest.mark.parametrize(
    "metric", ["{metric: ./code}", "{metric: rouge, hf_evaluate: true}", "{metric: none_such}", "acc"]
)
def test_metrics_that_are_python_from_elsewhere_are_refused(metric: str, folder: Path) -> None:
    """`evaluate` would run `code/code.py`, which a stranger may have put beside the task."""
    (folder / "code").mkdir()
    (folder / "code" / "code.py").write_text("raise SystemExit('code of the task was run')\n")
    with pytest.raises(TaskError, match=r"metric .* is none of lm-eval's own.*include_path"):
        digest_of(folder, "mine", DATA + BODY.replace("{metric: acc}", metric))


def test_templates_that_do_not_fit_the_documents(folder: Path) -> None:
    with pytest.raises(TaskError, match=r"'mine': lm-eval cannot make its first request: .*Check the fields"):
        digest_of(folder, "mine", DATA + BODY.replace("[a, wrong]", "none.such"))


# ------------------------------------------------------------------------------------------------- includes and groups


def yaml(folder: Path) -> Callable[[str, str], str]:
    def write(name: str, text: str) -> str:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path)

    return write


def test_included_files_as_lm_eval_includes_them(folder: Path) -> None:
    write = yaml(folder)
    write("_default.yaml", DATA + BODY + "num_fewshot: 0\nmetadata: {version: 1}\n")
    write("sub/_deeper", "include: _deepest\nmetadata: {version: 2}\n")
    write("sub/_deepest", 'description: "So: "\nmetadata: {version: 3}\n')
    path = write("incl.yaml", "task: incl\ninclude: [_default.yaml, sub/_deeper]\n")
    (task,) = harness.prepare(path)
    assert (task.name, task.version, task.documents) == ("incl", "2", 6)
    assert task.requests[0].args[0].startswith("So: 1 lamps")
    assert task.digest == hf_digest(folder, "incl")


def names(path: str) -> dict[str, int]:
    return {task.name: task.documents for task in harness.prepare(path)}


def test_groups_as_lm_eval_makes_them(folder: Path) -> None:
    """Tasks by name, tags, groups in groups, tasks with changes, and tasks that the group alone states."""
    write = yaml(folder)
    write("_default", DATA + BODY)
    for name in ("one", "two"):
        write(f"{name}.yaml", f"task: {name}\ninclude: _default\ntag: [pair, all]\n")
    write("deeper/three.yaml", f"task: three\n{DATA}{BODY}".replace("d.jsonl", "e.jsonl"))
    write("deeper/e.jsonl", json.dumps(ROWS[0]) + "\n")
    write("inner.yaml", "group: inner\ntask: [three]\n")
    assert names(write("tagged.yaml", "group: tagged\ntask: [pair]\n")) == {"one": 6, "two": 6}
    outer = "group: outer\ntask:\n  - one\n  - inner\n  - group: inline\n    task: [two, nano_arc]\n"
    assert names(write("outer.yaml", outer)) == {"one": 6, "three": 1, "two": 6, "nano_arc": 500}
    stated = "".join(f"    {line}\n" for line in (DATA + BODY).splitlines())
    changed = 'group: changed\ndescription: "So: "\ntask:\n  - task: one\n    description: "Thus: "\n  - two\n'
    path = write("changed.yaml", f"{changed}  - task: own\n{stated}")
    prompts = {task.name: task.requests[0].args[0].partition(" 1 ")[0] for task in harness.prepare(path)}
    assert prompts == {"one": "Thus:", "two": "So:", "changed::own": "So:"}
    manager = lm_eval.tasks.TaskManager(include_defaults=False, include_path=[str(folder)])
    theirs = manager.load(["changed"])["tasks"]
    assert {name: task.config.description for name, task in theirs.items()} == {
        name: f"{prompt} " for name, prompt in prompts.items()
    }


def test_changes_of_a_group_may_name_other_documents(folder: Path) -> None:
    write = yaml(folder)
    write("one.yaml", f"task: one\n{DATA}{BODY}")
    group = "group: other\ntask:\n  - task: one\n    dataset_kwargs: {data_files: {test: parts/1.jsonl}}\n"
    assert names(write("other.yaml", group)) == {"one": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("group: mine\ntask: [none_such_at_all]\n", r"'none_such_at_all' is neither in .*\(it has .*nor in lm-eval"),
        ("group: mine\ntask: one\n", "'mine': task: is no list of tasks.*has tag:"),
        ("group: mine\ntask: [7]\n", "7 is no task: give names"),
        ("group: mine\ntask: [mine]\n", "the group 'mine' is in itself"),
        ("task: [one, two]\n", "it names no task"),
        ("- task\n", "holds no fields"),
        ("task: mine\ninclude: mine.yaml\n", "mine.yaml includes itself"),
        ("task: mine\ninclude: ../up.yaml\n", "leaves the folder of the task's YAML"),
        ("task: mine\ninclude: gone.yaml\n", "gone.yaml cannot be read: FileNotFoundError"),
        ("task: mine\ninclude: {a: b}\n", "is not the name of a file"),
        ("task: mine\ninclude: code.yaml\n", r"!function in code\.yaml, line 1.*painters lm-eval --include_path"),
        ("group: mine\ntask: [code]\n", r"task in code\.yaml: !function in code\.yaml"),
        ("task: mine\ndoc_to_text: !other x\n", "constructor for the tag '!other'; use plain YAML"),
        ("task: {\n", "mine.yaml cannot be read: ParserError"),
    ],
)
def test_files_that_are_no_task(text: str, message: str, folder: Path) -> None:
    write = yaml(folder)
    write("one.yaml", f"task: one\n{DATA}{BODY}")
    write("code.yaml", "process_docs: !function utils.keep\ntask: code\n")
    write("../up.yaml", DATA)
    with pytest.raises(TaskError, match=message):
        harness.prepare(write("mine.yaml", text))


def test_a_data_set_of_the_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As lm-eval loads it; without network one message."""
    text = f"task: hub\ndataset_path: allenai/ai2_arc\ndataset_name: ARC-Easy\ntest_split: test\n{BODY}"
    path = yaml(folder)("hub.yaml", text)
    with pytest.raises(TaskUnavailableError, match=r"'hub': its doc.*s cannot be loaded from allenai/ai2_arc:.*online"):
        harness.prepare(path)
    asked: list[Any] = []

    def load_dataset(**options: Any) -> Any:
        asked.append(options)
        return {"test": datasets.Dataset.from_list(ROWS)}

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert names(path) == {"hub": 6}
    assert asked == [{"path": "allenai/ai2_arc", "name": "ARC-Easy"}]


def test_a_file_of_lm_evals_own_may_name_python(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = task_index.ROOT / "arc" / "arc_challenge.yaml"
    with pytest.raises(TaskUnavailableError, match=r"is in lm-eval, and its documents cannot be loaded"):
        harness.prepare(str(path))
