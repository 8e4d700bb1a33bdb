"""What SECURITY.md promises of files and names from strangers."""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table
from rich.text import Text
from support.fake_records import LAYERS, record
from support.outcome import Outcome

from painters import results, tasks
from painters.cli._terminal import Terminal
from painters.errors import printable
from painters.figures.output import Drawing
from painters.models import bundled
from painters.plan import Plan
from painters.tasks import TaskError

HOSTILE = "x\x1b]0;owned\x07\x1b[2J\r\x9b31m\u202e[red]=1+1"
SHOWN = "x\\x1b]0;owned\\x07\\x1b[2J\\r\\x9b31m\\u202e[red]=1+1"


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a copy of nano-llama whose configuration says something else."""

    def make(**changed: Any) -> Path:
        made = tmp_path / "model"
        shutil.copytree(bundled.models()["nano-llama"], made)
        config = json.loads((made / "config.json").read_text())
        (made / "config.json").write_text(json.dumps({**config, **changed}))
        return made

    return make


# ----------------------------------------------------------------------------------------------------- terminals, CSV


def test_what_a_terminal_obeys_is_written_out() -> None:
    assert printable(HOSTILE) == SHOWN
    assert printable("a\tb\nc – ü 漢 \U0001f600") == "a\tb\nc – ü 漢 \U0001f600"
    assert printable("\ud800") == "\\ud800"


def test_the_console_shows_names_and_obeys_none(capsys: pytest.CaptureFixture[str]) -> None:
    console = Terminal()
    console._force_terminal = True
    table = Table("task")
    table.add_row(HOSTILE)
    table.add_row(Text(HOSTILE, style="red"))
    console.print(table, HOSTILE)
    told = capsys.readouterr().out
    assert told.count("x\\x1b]0;owned") == 3
    assert "[red]=1+1" in told
    for obeyed in ("\x1b]", "\x1b[2J", "\x07", "\r", "\x9b", "\u202e"):
        assert obeyed not in told


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", HOSTILE),
        ("show", "0", "--layers", HOSTILE),
        ("show", "0", "--model", HOSTILE),
        ("show", "--variant", HOSTILE),
        ("models", "--inspect", HOSTILE),
        ("plot", "--from", HOSTILE),
        ("report", HOSTILE),
        ("sweep", HOSTILE),
        (HOSTILE,),
        ("variants", f"--{HOSTILE}"),
    ],
)
def test_no_message_can_steer_the_terminal(painters: Callable[..., Outcome], arguments: tuple[str, ...]) -> None:
    done = painters(*arguments)
    assert done.code in (1, 2)
    for obeyed in ("\x1b]", "\x1b[2J", "\x07", "\r", "\x9b", "\u202e"):
        assert obeyed not in done.err + done.out


def test_no_text_in_a_csv_is_a_formula() -> None:
    rows = [{"task": text, "value": -1.5} for text in ("=1+1", "+1", "-1", "@x", "\tx", "\rx", "\nx", "a=b")]
    table = Drawing(None, rows, ("task", "value"), ()).table  # type: ignore[arg-type]
    assert list(table["task"]) == ["'=1+1", "'+1", "'-1", "'@x", "'\tx", "'\rx", "'\nx", "a=b"]
    assert list(table["value"]) == [-1.5] * 8


# -------------------------------------------------------------------------------------------------------------- paths


@pytest.mark.parametrize("file", ["../secret.jsonl", "/etc/passwd", "link.jsonl"])
def test_documents_of_a_task_lie_beside_its_file(file: str, tmp_path: Path) -> None:
    (tmp_path / "secret.jsonl").write_text('{"text": "secret"}\n')
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "link.jsonl").symlink_to(tmp_path / "secret.jsonl")
    path = tmp_path / "task" / "task.yaml"
    path.write_text(f"task: task\noutput_type: loglikelihood\ndataset_kwargs: {{data_files: {{test: {file}}}}}\n")
    with pytest.raises(TaskError, match=r"leaves the folder of its YAML"):
        tasks.config(path)


# ------------------------------------------------------------------------------------------------------------- models

BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "a thousand million layers": (
        {"num_hidden_layers": 10**9},
        r"num_hidden_layers 1000000000: at most 10000 are read",
    ),
    "millions of labels": ({"num_labels": 10**9}, r"num_labels 1000000000: at most 1000000 are read"),
    "layers of experts": ({"num_hidden_layers": 9000, "num_experts": 9000}, r"at most 200000 in all are read"),
    "huge layers": ({"hidden_size": 10**9}, r"describes .* parameters, and its \*\.safetensors have 7,802,248 bytes"),
    "a huge vocabulary": ({"vocab_size": 10**12}, r"describes .* parameters"),
    "layers without weights": ({"num_hidden_layers": 14}, r"its checkpoint lacks 18 of the weights"),
    "a word for a number": ({"num_hidden_layers": "x"}, r"is not one that this transformers .* can use: .*TypeError"),
    "a code of somebody's": ({"attn_implementation": "some/kernel"}, r"asks for the code of 'some/kernel'"),
    "a code in a part": ({"text_config": {"_attn_implementation": {"": "a/b"}}}, r"asks for the code of 'a/b'"),
    "an unknown number type": ({"dtype": "os.system"}, r"is not one that this transformers"),
    "an unknown function": ({"hidden_act": "system"}, r"cannot build a model of type 'llama'"),
    "no division": ({"num_key_value_heads": 0}, r"cannot build a model of type 'llama'"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_hostile_configuration_is_refused_at_once(name: str, folder: Callable[..., Path]) -> None:
    from painters.models import ModelError, load_model

    changed, says = BROKEN[name]
    start = time.process_time()
    with pytest.raises(ModelError, match=says):
        load_model(str(folder(**changed)))
    assert time.process_time() - start < 20


def test_code_beside_a_model_is_not_run(folder: Callable[..., Path]) -> None:
    from painters.models import ModelError, load_model, skeleton

    names = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model", "AutoTokenizer": ["own.T", None]}
    made = folder(auto_map=names)
    told = json.loads((made / "tokenizer_config.json").read_text())
    (made / "tokenizer_config.json").write_text(json.dumps({**told, "auto_map": {"AutoTokenizer": ["own.T", None]}}))
    (made / "own.py").write_text("raise SystemExit('code of the model was run')\n")
    load_model(str(made))
    skeleton(str(made))
    config = json.loads((made / "config.json").read_text())
    (made / "config.json").write_text(json.dumps({**config, "model_type": "own"}))
    with pytest.raises(ModelError, match=r"trust_remote_code|not one that this transformers"):
        load_model(str(made))
    assert "own" not in sys.modules


def test_pickled_weights_are_not_read(folder: Callable[..., Path]) -> None:
    import torch

    from painters.models import ModelError, load_model

    class Owned:
        def __reduce__(self) -> Any:
            return (sys.exit, ("pickle was run",))

    made = folder()
    (made / "model.safetensors").unlink()
    torch.save({"a": Owned()}, made / "pytorch_model.bin")
    with pytest.raises(ModelError, match="no pickled weights"):
        load_model(str(made))


@pytest.mark.parametrize("text", ["[]", "7", "[" * 100_000, "{", '{"num_hidden_layers": true}', "\x00"])
def test_a_configuration_that_is_none(painters: Callable[..., Outcome], text: str, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text(text)
    done = painters("show", "--variant", "skip", "--model", "./m")
    assert done.code in (1, 2)
    assert "Traceback" not in done.err
    assert done.err.startswith("painters: model './m'")


# ------------------------------------------------------------------------------------------------------------- records


@pytest.mark.filterwarnings("ignore:Glyph .* missing from font:UserWarning")
@pytest.mark.parametrize("name", ["../../owned", "/nowhere/owned", "a/b", ".."])
def test_no_name_in_a_record_becomes_a_path(painters: Callable[..., Outcome], name: str, tmp_path: Path) -> None:
    records = [record(Plan.identity(LAYERS), "fake_arc", 1.0), record(Plan.parse("0-3"), "fake_arc", 0.5)]
    results.append(
        tmp_path / "base" / "in" / "r.jsonl",
        [one.model_copy(update={"model": name, "task": name, "variant": name}) for one in records],
    )
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert painters("plot", "7", "--from", "{tmp}/base/in", "--to", "{tmp}/base/out").code in (0, 1)
    assert painters("report", "{tmp}/base/in", "--out", "{tmp}/base/out/r.html", "--no-figures").code == 0
    made = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert made
    assert all(path.is_relative_to(tmp_path / "base" / "out") for path in made)


# -------------------------------------------------------------------------------------------------------- SECURITY.md


def test_every_promise_is_held_by_a_test_that_is_there() -> None:
    root = Path(__file__).parents[2]
    rows = [line for line in (root / "SECURITY.md").read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    assert len(rows) > 10
    for row in rows[1:]:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert named, row
        for file, test in named:
            assert f"def {test}(" in (root / file).read_text(encoding="utf-8"), f"{file} has no {test}"
