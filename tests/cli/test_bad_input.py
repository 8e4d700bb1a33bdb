"""What is wrong on the command line gets one message, its exit code, and leaves every file as it was."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.bad_inputs import (
    EXPERIMENT,
    LLAMA,
    Prepare,
    at,
    broken_config,
    checkpoint,
    cut_weights,
    experiment,
    fewer_weights,
    folder,
    full,
    inside,
    pickled_weights,
    text,
)
from support.outcome import Outcome


class Bad(NamedTuple):
    arguments: tuple[str, ...]
    code: int
    says: tuple[str, ...]
    prepare: Prepare | None = None  # what lies at {tmp}/x


PLAN, QUICK = ("--plan", "0-11"), ("--tasks", "nano_winogrande", "--limit", "2")
INTACT = ("run", *PLAN)
X = "{tmp}/x"

BAD: dict[str, Bad] = {
    # the command line itself
    "an unknown command": Bad(("paint",), 2, ("'paint'", "painters --help")),
    "an unknown option": Bad(("run", "--plam", "0-11"), 2, ("--plam", "--plan")),
    "an option without its value": Bad(("run", "--plan"), 2, ("--plan", "argument")),
    "a missing argument": Bad(("sweep",), 2, ("EXPERIMENT",)),
    "a missing option": Bad(("export", *PLAN), 2, ("--to",)),
    "one argument too many": Bad(("tasks", "nano_arc"), 2, ("nano_arc", "run --tasks NAME")),
    "a plan that is not quoted": Bad(("show", "0-3", "{4-8}", "9-11"), 2, ("{4-8} 9-11",)),
    "escape codes in a name": Bad((*INTACT, "--model", "\x1b[31mred"), 1, ("\\x1b[31mred",)),
    # plans
    "nothing to run": Bad(("run",), 2, ("--plan or --variant", "painters variants")),
    "a plan and a variant": Bad(
        ("run", *PLAN, "--variant", "skip"), 2, ("--plan '0-11' and --variant skip", "give one")
    ),
    "a bracket that stays open": Bad(("run", "--plan", "0-3 {4-8 9"), 2, ("^", "}")),
    "a bracket too many": Bad(("run", "--plan", "0-3 4)"), 2, ("^",)),
    "an empty plan": Bad(("run", "--plan", ""), 2, ("plan",)),
    "an empty group": Bad(("run", "--plan", "0 {} 1"), 2, ("^",)),
    "an unknown sign": Bad(("run", "--plan", "0 & 1"), 2, ("'&'", "^")),
    "a range without its end": Bad(("run", "--plan", "0-"), 2, ("^",)),
    "a negative layer": Bad(("run", "--plan", "-1"), 2, ("^",)),
    "letters in a plan": Bad(("run", "--plan", "all"), 2, ("^",)),
    "a repeat of nothing": Bad(("run", "--plan", "*3"), 2, ("^",)),
    "no repeats": Bad(("run", "--plan", "(0-11)*0"), 2, ("^",)),
    "an enormous plan": Bad(("run", "--plan", "(0-11)*999999999"), 2, ("repeat number is too large", "10000")),
    "an enormous number": Bad(("run", "--plan", "9" * 40), 2, ("too large",)),
    "an unknown half": Bad(("run", "--plan", "0-2 3.ffn"), 2, ("^", "mlp")),
    "an unknown merge": Bad(("run", "--plan", "{0-11}:max"), 2, ("^", "sum")),
    "deep nesting": Bad(("run", "--plan", "(" * 500 + "0" + ")" * 500), 2, ("too many open brackets", "At most 100")),
    "a layer that the model has not": Bad(("run", "--plan", "0-12"), 2, ("layer 12", "12 layers (0 to 11)")),
    # variants
    "an unknown variant": Bad(("run", "--variant", "paralel"), 2, ("'paralel'", "'parallel'")),
    "an empty window": Bad(("run", "--variant", "skip", "--start", "6"), 2, ("start 6", "0 to 5")),
    "a negative start": Bad(("run", "--variant", "skip", "--start", "-1"), 2, ("start -1", "0 to 5")),
    "a start that is no number": Bad(("run", "--variant", "skip", "--start", "N"), 2, ("--start N", "integer")),
    "no loops": Bad(("run", "--variant", "parallel", "--loops", "0"), 2, ("loops 0", "1 to")),
    "too many loops": Bad(("run", "--variant", "parallel", "--loops", "100000"), 2, ("loops 100000",)),
    "an option of another variant": Bad(("run", "--variant", "skip", "--loops", "3"), 2, ("'loops'", "start")),
    "a plan with a variant's option": Bad(("run", *PLAN, "--start", "3"), 2, ("--start", "--variant")),
    "no layer to skip": Bad(("run", "--variant", "skip-layer"), 2, ("needs a layer", "--layer N")),
    "no layer to swap with": Bad(("run", "--variant", "swap", "--layer", "11"), 2, ("layer 11", "0 to 10")),
    "an unknown way to loop": Bad(
        ("run", "--variant", "loop", "--by", "model"), 2, ("--by model", "'block'", "'layer'")
    ),
    # tasks and how they are asked
    "an unknown task": Bad((*INTACT, "--tasks", "nano_ark"), 2, ("'nano_ark'", "nano_arc")),
    "no task": Bad((*INTACT, "--tasks", " ,"), 2, ("names no task", "painters tasks")),
    "a limit of nothing": Bad((*INTACT, "--limit", "0"), 2, ("'--limit': '0'", "a whole number of documents")),
    "a negative limit": Bad((*INTACT, "--limit", "-5"), 2, ("'--limit': '-5'", "a whole number of documents")),
    "a limit that is no number": Bad(
        (*INTACT, "--limit", "ten"), 2, ("'--limit': 'ten'", "a whole number of documents")
    ),
    "no rows in a batch": Bad((*INTACT, "--batch-size", "0"), 2, ("--batch-size 0",)),
    "negative shots": Bad((*INTACT, "--shots", "-1"), 2, ("--shots -1",)),
    "shots where there are none": Bad(
        (*INTACT, "--tasks", "nano_lambada", "--shots", "2"), 2, ("nano_lambada", "shots")
    ),
    "an unknown cache": Bad((*INTACT, "--kv", "mean"), 2, ("--kv mean", "'averaged'")),
    "halves that are not known": Bad(
        ("run", "--plan", "{0 (1 2)}", "--kv", "averaged", "--tasks", "nano_gsm8k", "--limit", "1"), 1, ("averaged",)
    ),
    # where it runs
    "an unknown dtype": Bad((*INTACT, "--dtype", "int3"), 2, ("--dtype int3", "'bfloat16'")),
    "an unknown device": Bad((*INTACT, "--device", "gpu"), 2, ("'gpu'", "cuda")),
    "a device that is not there": Bad((*INTACT, "--device", "cuda:77"), 1, ("cuda:77", "cpu")),
    "a device and a map of devices": Bad(
        (*INTACT, "--device", "cpu", "--device-map", "auto"), 2, ("device 'cpu'", "device_map 'auto'")
    ),
    "an unknown map of devices": Bad((*INTACT, "--device-map", "everywhere"), 2, ("everywhere", "auto")),
    # models
    "a model that is nowhere": Bad(
        (*INTACT, "--model", "nobody/nothing"), 1, ("nobody/nothing", "nano-llama", "hf download")
    ),
    "a name that no model can have": Bad((*INTACT, "--model", "a//b"), 2, ("'a//b'",)),
    "a folder that is not there": Bad((*INTACT, "--model", X), 2, ("no such file or folder", "check the path")),
    "a path that is not there": Bad((*INTACT, "--model", "/nope"), 2, ("'/nope'", "check the path")),
    "a bundled model misspelt": Bad((*INTACT, "--model", "nano-lama"), 2, ("'nano-lama'", "did you mean nano-llama?")),
    "a bundled model misspelt to export": Bad(
        ("export", "--plan", "0-10", "--model", "nano_llama", "--to", X), 2, ("did you mean nano-llama?",)
    ),
    "a bundled model misspelt to measure": Bad(
        ("similarity", "--model", "nano-lamma"), 2, ("did you mean nano-llama?",)
    ),
    "a bundled model misspelt to sweep": Bad(
        ("sweep", "fig4", "--encoder", "nano-brt"), 2, ("did you mean nano-bert?",)
    ),
    "a bundled model misspelt to look into": Bad(
        ("models", "--inspect", "nanollama"), 2, ("did you mean nano-llama?",)
    ),
    "a bundled model misspelt to show": Bad(("show", "0-3", "--model", "nano-bret"), 2, ("did you mean nano-bert?",)),
    "an empty folder as model": Bad((*INTACT, "--model", X), 1, ("config.json",), folder),
    "a file as model": Bad((*INTACT, "--model", X), 1, ("x",), text("weights")),
    "a configuration that is no JSON": Bad((*INTACT, "--model", X), 1, ("config",), checkpoint(broken_config)),
    "a configuration of an unknown type": Bad((*INTACT, "--model", X), 1, ("lama",), checkpoint(model_type="lama")),
    "a configuration of wrong types": Bad(
        (*INTACT, "--model", X), 1, ("num_hidden_layers", "'twelve'"), checkpoint(num_hidden_layers="twelve")
    ),
    "another size than the weights have": Bad(
        (*INTACT, "--model", X), 1, ("shape", "config.json"), checkpoint(hidden_size=320)
    ),
    "more layers than the weights have": Bad(
        (*INTACT, "--model", X), 1, ("model.layers.12.", "18 of the weights"), checkpoint(num_hidden_layers=14)
    ),
    "a tensor that is missing": Bad((*INTACT, "--model", X), 1, ("layers.3.mlp.up_proj",), checkpoint(fewer_weights)),
    "corrupt weights": Bad((*INTACT, "--model", X), 1, ("safetensors",), checkpoint(cut_weights)),
    "pickled weights": Bad((*INTACT, "--model", X), 1, ("pickle",), checkpoint(pickled_weights)),
    "no tokenizer": Bad((*INTACT, "--model", X), 1, ("tokenizer",), checkpoint(without="token*")),
    "an encoder": Bad((*INTACT, "--model", "nano-bert"), 1, ("encoder", "painters.glue")),
    "a revision of a bundled model": Bad((*INTACT, "--revision", "v2", *QUICK), 2, ("revision 'v2'", "nano-llama")),
    # records
    "records into a folder": Bad((*INTACT, "--out", "{tmp}"), 2, ("directory", "records.jsonl")),
    "records under a file": Bad((*INTACT, "--out", f"{X}/r.jsonl"), 1, ("x",), text("")),
    "records where nothing can be written": Bad((*INTACT, "--out", "/proc/nowhere/r.jsonl"), 1, ("/proc/nowhere",)),
    # show
    "nothing to draw": Bad(("show",), 2, ("a plan or --variant",)),
    "a plan and a variant to draw": Bad(("show", "0-3", "--variant", "skip"), 2, ("'0-3' and --variant skip",)),
    "a drawing of an unknown kind": Bad(("show", "0-11", "--out", "plan.gif"), 2, ("plan.gif", ".svg or .png")),
    "a drawing into a missing folder": Bad(("show", "0-11", "--out", f"{X}/plan.svg"), 1, ("x",)),
    "a drawing of a layer that is not there": Bad(("show", "0-12", "--layers", "12"), 2, ("layer 12",)),
    "two numbers of layers": Bad(("show", "0-3", "--layers", "12", "--model", "nano-llama"), 2, ("not both",)),
    "a model without layers": Bad(("show", "0-3", "--layers", "0"), 2, ("--layers 0",)),
    "a variant in no layers": Bad(("show", "--variant", "skip", "--layers", "1"), 2, ("1-layer", "at least 2")),
    # similarity
    "an unknown mode": Bad(("similarity", "--mode", "mean"), 2, ("'mean'", "centred")),
    "a block of nothing": Bad(("similarity", "--block", "0"), 2, ("--block 0",)),
    "a block longer than the plan": Bad(("similarity", "--block", "13"), 2, ("--block 13", "12 steps")),
    "texts that are not there": Bad(("similarity", "--inputs", f"{X}.txt"), 2, ("x.txt",)),
    "a file without texts": Bad(
        ("similarity", "--inputs", f"{X}/a.txt"),
        2,
        ("a.txt",),
        inside("a.txt", text("\n \n")),
    ),
    "texts that are no text": Bad(
        ("similarity", "--inputs", f"{X}/a.txt"),
        2,
        ("a.txt", "UTF-8"),
        inside("a.txt", text(b"\xff\xfe\x00\xd8" * 9)),
    ),
    "states on an unknown task": Bad(("similarity", "--inputs", "nano_ark"), 2, ("nano_ark",)),
    "a plan and a variant to measure": Bad(("similarity", *PLAN, "--variant", "skip"), 2, ("--plan or --variant",)),
    "a start of no variant": Bad(("similarity", "--start", "3"), 2, ("--start", "--variant")),
    "states kept under a file": Bad(("similarity", "--out", X), 2, ("x",), text("")),
    # experiments
    "an unknown experiment": Bad(("sweep", "fig99"), 2, ("'fig99'", "fig4")),
    "an experiment that is not there": Bad(("sweep", "mine.yaml"), 2, ("mine.yaml", "No such file")),
    "an experiment that is a folder": Bad(("sweep", f"{X}.yaml"), 2, ("x.yaml",), at(".yaml", folder)),
    "an empty experiment": Bad(("sweep", f"{X}.yaml"), 2, ("empty",), at(".yaml", text(""))),
}


def experiment_row(says: tuple[str, ...], prepare: Prepare) -> Bad:
    return Bad(("sweep", f"{X}.yaml", "--out", "store"), 2, ("x.yaml", *says), at(".yaml", prepare))


BAD |= {
    "an unknown field": experiment_row(("line 6", "colour"), experiment(more="colour: red\n")),
    "a field of a wrong type": experiment_row(("line 2", "models"), experiment("[nano-llama]", "3")),
    "a field that is missing": experiment_row(("variants must name at least one",), experiment("variants: [{name: skip, start: [3]}]\n")),
    "a variant misspelt in a file": experiment_row(("line 4", "skpi"), experiment("skip", "skpi")),
    "a field that is there twice": experiment_row(("line 6", "'title'"), experiment(more="title: B\n")),
    "a binary experiment": experiment_row(("UTF-8",), text(b"\x00\xff\xfe" * 100)),
    "a huge experiment": experiment_row(("longer than",), text("# " + "x" * 100_000)),
    "aliases that multiply": experiment_row(("aliases",), experiment(more="a: &a [1]\nb: [*a, *a]\n")),
    "a tag that constructs": experiment_row(("tags",), experiment(more="a: !!python/object/apply:os.system [ls]\n")),
    "brackets that do not close": experiment_row(("line",), experiment("[nano-llama]", "[nano-llama")),
    "a task outside the folder": experiment_row(("../secret.yaml",), experiment("nano_winogrande", "../secret.yaml")),
    "a window that is empty": experiment_row(("start",), experiment("[3]", "[7]")),
    "an encoder and none": Bad(("sweep", "fig4", "--encoder", "nano-bert", "--no-encoder"), 2, ("--no-encoder",)),
    "a model that nothing asks": Bad(("sweep", "fig12", "--encoder", "nano-bert"), 2, ("nano-bert", "fig12")),
    "a peak without an estimate": Bad(("sweep", "fig4", "--tflops", "9"), 2, ("--tflops", "--plan-only")),
    "no peak": Bad(("sweep", "fig4", "--plan-only", "--tflops", "0"), 2, ("--tflops 0",)),
    "workers of one process": Bad(("sweep", "fig4", "--workers", "2"), 2, ("--workers", "ray")),
    "no workers": Bad(("sweep", "fig4", "--engine", "ray", "--workers", "0"), 2, ("--workers 0",)),
    "an unknown engine": Bad(("sweep", "fig4", "--engine", "slurm"), 2, ("--engine slurm", "'ray'")),
    "ray where it is not installed": Bad(("sweep", "fig4", "--engine", "ray"), 1, ("painters[ray]",)),
    "a store that is a file": Bad(("sweep", "fig4", "--out", X), 1, ("x",), text("")),
    "a store where nothing can be written": Bad(("sweep", "fig4", "--quick", "--out", "/proc/nowhere"), 1, ("/proc/nowhere",)),
    # figures
    "an unknown figure": Bad(("plot", "15"), 2, ("figure '15'", "1 to 14")),
    "a figure that is no number": Bad(("plot", "two"), 2, ("two",)),
    "records that are not there": Bad(("plot", "4", "--from", X), 2, ("x", "no such")),
    "a folder without records": Bad(("plot", "4", "--from", X), 2, ("x",), folder),
    "an empty file of records": Bad(("plot", "4", "--from", X), 2, ("x",), text("")),
    "corrupt records": Bad(("plot", "4", "--from", f"{X}.jsonl"), 2, ("x.jsonl", "none in it"), at(".jsonl", text('{"task": \n{}\n'))),
    "records of something else": Bad(("plot", "4", "--from", f"{X}.jsonl"), 2, ("x.jsonl", "none in it"), at(".jsonl", text('{"a": 1}\n'))),
    "a decoder without records": Bad(("plot", "4", "--model", "gpt2"), 2, ("gpt2", "nano-llama")),
    "figures under a file": Bad(("plot", "1", "--to", X), 1, ("x",), text("")),
    "an unknown figure to reproduce": Bad(("reproduce", "0"), 2, ("figure '0'", "1 to 14")),
    "documents that are not there": Bad(("reproduce", "4", "--data", X), 2, ("x", "no such folder")),
    "a model that no figure asks": Bad(("reproduce", "2", "--encoder", "nano-bert"), 2, ("nano-bert",)),
    # reports
    "a report of nothing": Bad(("report", X), 2, ("x",), folder),
    "a report of what is not there": Bad(("report", X), 2, ("x",)),
    "a report into a folder": Bad(("report", "--out", X, "--no-figures"), 1, ("x",), folder),
    "a report under a file": Bad(("report", "--out", f"{X}/a.html", "--no-figures"), 1, ("x",), text("")),
    # exports
    "an export onto other work": Bad(("export", "--plan", "0-10", "--to", X), 2, ("x", "thesis.tex", "--force"), full),
    "an export onto a file": Bad(("export", "--plan", "0-10", "--to", X), 2, ("x",), text("")),
    "an export of side by side": Bad(("export", "--plan", "0-2 {3-8} 9-11", "--to", X), 2, ("--with-code",)),
    "a recipe for side by side": Bad(("export", "--plan", "0-2 {3-8} 9-11", "--with-code", "--mergekit", "--to", X), 2, ("mergekit",)),
    "an export of a layer that is not there": Bad(("export", "--plan", "0-12", "--to", X), 2, ("layer 12",)),
    "an unknown size of shards": Bad(("export", "--plan", "0-10", "--max-shard-size", "small", "--to", X), 2, ("small", "500MB")),
    "an export of no model": Bad(("export", "--plan", "0-10", "--model", "nobody/nothing", "--to", X), 1, ("nobody/nothing",)),
    # lists
    "a name for models": Bad(("models", "nope"), 2, ("nope", "--inspect NAME")),
    "a name for variants": Bad(("variants", "nope"), 2, ("nope", "show --variant NAME")),
    "windows of one layer": Bad(("variants", "--layers", "1"), 2, ("--layers 1",)),
    "a stack of no model": Bad(("models", "--stack", "decoder"), 2, ("--inspect",)),
    "an unknown stack": Bad(("models", "--inspect", "nano-llama", "--stack", "sideways"), 2, ("sideways", "model.layers")),
    "a model to look into that is nowhere": Bad(("models", "--inspect", "nobody/nothing"), 1, ("nobody/nothing",)),
    # lm-eval's own
    "an unknown task of lm-eval": Bad(("lm-eval", "--model", "painters", "--model_args", "pretrained=nano-llama", "--tasks", "nano_ark"), 1, ("nano_ark",)),
    "a plan for lm-eval that is malformed": Bad(("lm-eval", "--model", "painters", "--model_args", "pretrained=nano-llama,plan=0-3 {4", "--tasks", "nano_arc"), 2, ("^",)),
    "a variant for lm-eval that is unknown": Bad(("lm-eval", "--model", "painters", "--model_args", "pretrained=nano-llama,variant=skpi", "--tasks", "nano_arc"), 2, ("'skip'",)),
    "an unknown model of lm-eval": Bad(("lm-eval", "--model", "pianters", "--tasks", "nano_arc"), 1, ("pianters",)),
}  # fmt: skip


def files(top: Path) -> dict[str, bytes | None]:
    """Every file of a folder with its bytes; None for folders."""
    return {str(path.relative_to(top)): path.read_bytes() if path.is_file() else None for path in top.rglob("*")}


@pytest.fixture
def store(tmp_path: Path) -> None:
    """Records where the commands look for them."""
    committed = (LLAMA.parents[2] / "results" / "nano-llama.jsonl").read_bytes().splitlines(keepends=True)
    for place in (tmp_path / "runs" / "records.jsonl", tmp_path / "store" / "records.jsonl"):
        place.parent.mkdir()
        place.write_bytes(b"".join(committed[:3]))


@pytest.fixture
def quick_lm_eval(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """lm-eval's thousands of tasks take half a minute to be listed, and its log goes to the stderr that it finds."""
    import lm_eval.tasks

    class Few(lm_eval.tasks.TaskManager):  # type: ignore[misc]
        def __init__(self, verbosity: Any = None, include_path: Any = None, **options: Any) -> None:
            super().__init__(verbosity, include_path, include_defaults=False, **options)

    monkeypatch.setattr(lm_eval.tasks, "TaskManager", Few)
    loggers = [logging.getLogger(name) for name in (None, "lm_eval")]
    before = [(logger.level, logger.handlers[:]) for logger in loggers]
    yield
    for logger, (level, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers = handlers


PROGRESS = re.compile(r"Loading |Building |Drawing |\[ *\d+ %\]|\d{4}-\d\d-\d\d")  # the last one is lm-eval's log
NOTE = re.compile(r"^painters: records of .* damaged and left out .*\n", re.MULTILINE)


def one_message(told: str) -> str:
    """The message, which must be all there is behind lines of progress and a note of what was left out."""
    told = NOTE.sub("", told)
    before, _, message = told.partition("painters: ")
    assert all(map(PROGRESS.match, before.splitlines())), told
    assert message.endswith("\n")
    assert "painters: " not in message, told
    assert not any(sign in told for sign in ("Traceback", "Warning", "\x1b")), told
    return message


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_gets_one_message_and_changes_nothing(
    painters: Callable[..., Outcome],
    tmp_path: Path,
    store: None,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    arguments, code, says, prepare = BAD[kind]
    if "lm-eval" in arguments:
        request.getfixturevalue("quick_lm_eval")
    monkeypatch.setitem(sys.modules, "ray", None)
    if prepare is not None:
        prepare(tmp_path / "x")
    before = files(tmp_path)
    found = painters(*arguments)
    message = one_message(found.err)
    for words in says:
        assert words in message
    assert (found.code, found.out) == (code, ""), message
    assert files(tmp_path) == before


def test_there_are_kinds_enough() -> None:
    assert len(BAD) >= 60
    assert len({bad.arguments for bad in BAD.values() if bad.prepare is None}) > 60


@pytest.mark.parametrize(
    "kind", ["a bracket that stays open", "an unknown figure", "a missing argument", "a store that is a file"]
)
def test_a_process_of_its_own_says_the_same(painters: Callable[..., Outcome], tmp_path: Path, kind: str) -> None:
    arguments, code, _, prepare = BAD[kind]
    if prepare is not None:
        prepare(tmp_path / "x")
    done = subprocess.run(
        [sys.executable, "-m", "painters", *(word.replace("{tmp}", str(tmp_path)) for word in arguments)],
        capture_output=True, text=True, check=False, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(LLAMA.parents[2])},
    )  # fmt: skip
    assert Outcome(done.returncode, done.stdout, done.stderr) == painters(*arguments)
    assert done.returncode == code


ENCODER = """\
title: Encoders
encoder:
  models: [{model}]
  tasks: [nano_cola]
  variants: [{{name: skip, start: [3]}}]
  tuning: [{{protocol: frozen, epochs: 1}}]
  protocol: {{limit: 2}}
"""


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (EXPERIMENT.replace("nano-llama", "nano-bert"), "is an encoder (bert)"),
        (ENCODER.format(model="nano-llama"), "painters.glue fine-tunes encoders"),
    ],
    ids=["encoder on a decoder's tasks", "decoder on an encoder's tasks"],
)
def test_a_model_of_the_other_kind_fails_cell_by_cell(
    painters: Callable[..., Outcome], tmp_path: Path, content: str, says: str
) -> None:
    """As of any cell that fails, the result says why, on stdout."""
    (tmp_path / "x.yaml").write_text(content)
    found = painters("sweep", "x.yaml", "--json", "--out", "store")
    told = json.loads(found.out)
    assert (found.code, found.err, told["done"], told["failed"]) == (1, "", 0, 2)
    assert all(says in failure["reason"] for failure in told["failures"])
    assert not [*(tmp_path / "store").glob("*.jsonl")]
