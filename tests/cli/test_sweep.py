"""`painters sweep` as a user meets it: a table, an estimate, a clean end, and one clear message for every mistake."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.glue_samples import encoder, save, write_task
from support.nano_samples import llama, tokenizer, write_tasks
from support.outcome import Outcome
from support.printing import printed
from support.sweeps import CELLS, GRID, content

from painters import sweep
from painters.cli import _progress
from painters.cli import sweep as sweep_command
from painters.experiment import Experiment, ExperimentError, load
from painters.results import Store
from painters.sweep import Progress

ROOT = Path(__file__).parents[2]

ENCODER = """\
encoder:
  models: [{encoder}]
  tasks: [data/cola, data/stsb]
  variants: [{{name: skip, start: [0, 1]}}]
  tuning:
    - {{protocol: retuned, epochs: 1, rate: 1.0e-3}}
    - {{protocol: frozen, epochs: 1}}
    - {{protocol: operated, epochs: 1, rate: 1.0e-3}}
  protocol: {{limit: 8}}
  quick: {{limit: 4, start: [1], documents: 10}}
"""
ENCODED = 3 * 3 * 2  # plans, tunings, tasks


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a decoder, an encoder, the documents of their tasks, and experiments."""
    folder = tmp_path_factory.mktemp("experiments")
    for name, seed in (("llama", 0), ("other", 1)):
        llama(seed=seed).save_pretrained(folder / name)
        tokenizer().save_pretrained(folder / name)
    save(encoder(), folder / "bert")
    save(encoder(seed=1), folder / "tiny")
    write_tasks(folder / "tasks")
    for task in ("cola", "stsb"):
        write_task(folder / "data", task, train=16, validation=9)
    text = GRID.format(model=folder / "llama")
    (folder / "grid.yaml").write_text(text)
    quick = "quick: {limit: 2, start: [1]}\n"
    (folder / "both.yaml").write_text("figure: 4\n" + text + quick + ENCODER.format(encoder=folder / "bert"))
    (folder / "wrong.yaml").write_text(text.replace("skip", "skp"))
    (folder / "failing.yaml").write_text(text.replace("nano_lambada.yaml", "missing.yaml"))
    return folder


Call = Callable[..., Outcome]


# ------------------------------------------------------------------------------------------------------------ the table


def test_a_sweep_ends_with_a_table_and_what_to_do_next(painters: Call, folder: Path) -> None:
    found = painters("sweep", f"{folder}/grid.yaml", "--limit", "1")
    assert found.code == 0, found.err
    assert rows(found.out) | {"time": ""} == {
        "cells": "12", "found": "0", "done": "12", "failed": "0", "time": "", "store": "runs/grid",
    }  # fmt: skip
    assert "Next: painters plot --from runs/grid" in found.out
    assert found.err.splitlines()[0] == "Loading libraries and models"
    assert found.err.splitlines()[-1].startswith("[12/12] done; 0:00:")
    again = painters("sweep", f"{folder}/grid.yaml", "--limit", "1", "--quiet")
    assert (rows(again.out)["found"], rows(again.out)["done"], again.err) == ("12", "0", "")


def rows(text: str) -> dict[str, str]:
    """The two columns of the table."""
    return dict(line.strip().split(maxsplit=1) for line in text.splitlines()[:6])


def test_the_json_has_the_failures_one_by_one(painters: Call, folder: Path) -> None:
    found = painters("sweep", f"{folder}/failing.yaml", "--limit", "1", "--json", "--out", "here")
    assert found.code == 1
    assert found.err == ""
    result = json.loads(found.out)
    assert (result["cells"], result["done"], result["failed"], result["store"]) == (
        CELLS,
        CELLS // 2,
        CELLS // 2,
        "here",
    )
    assert len(result["failures"]) == CELLS // 2
    assert {failure["task"] for failure in result["failures"]} == {"missing"}
    table = painters("sweep", f"{folder}/failing.yaml", "--limit", "1", "--out", "here")
    assert table.code == 1
    assert " ".join(table.out.split()).count("Failed: ") == 1
    assert "identity on missing and 5 other cells: task in missing.yaml" in " ".join(table.out.split())
    assert "Traceback" not in table.err


def test_what_did_not_count_is_reported() -> None:
    summary = sweep.Summary(Path("runs/x"), cells=4, found=3, done=1, seconds=3725.4)
    summary.refused["m: scored with other weights (a; here b)"] = 1
    summary.unchecked["t"] = "it is gone"
    summary.notes.update({"A worker was lost and replaced": 2, "A worker was given up: no": 1})
    text = printed(sweep_command.summary_table(summary, [load("fig4"), load("fig2")]))
    assert "1 scoring in the store did not count: m: scored with other weights (a; here b)" in text
    assert "The records of t were not checked against the model and task at hand: it is gone" in text
    assert "A worker was lost and replaced (2 times)\nA worker was given up: no\n" in re.sub(" +\n", "\n", text)
    assert "time    1:02:05" in text
    assert "Next: painters plot 2 4 --from runs/x" in text


# ------------------------------------------------------------------------------------- decoders and encoders, exchanged


def test_decoders_and_encoders_are_swept_and_exchanged(painters: Call, folder: Path) -> None:
    both = ("sweep", f"{folder}/both.yaml", "--json", "--limit", "2", "--out", "store")
    result = json.loads(painters(*both).out)
    assert (result["cells"], result["done"], result["failures"]) == (CELLS + ENCODED, CELLS + ENCODED, [])
    again = json.loads(painters(*both).out)
    assert (again["found"], again["done"], again["refused"]) == (CELLS + ENCODED, 0, {})
    exchanged = ("--model", f"{folder}/other", "--encoder", f"{folder}/tiny")
    result = json.loads(painters(*both, *exchanged).out)
    assert (result["cells"], result["done"], result["found"]) == (CELLS + ENCODED, CELLS + ENCODED, 0)
    records = Store("store").records()
    assert {Path(record.model).name for record in records} == {"llama", "bert", "other", "tiny"}
    tuned = [record for record in records if record.tuning]
    assert {(r.task, r.metric) for r in tuned if r.primary} == {("cola", "matthews"), ("stsb", "combined")}
    assert {r.documents for r in records} == {2}
    assert {(r.seed, r.batch_size, r.kv) for r in tuned} == {(42, 32, "exact")}
    assert {record.cell_key for record in records} >= {record.cell_key for record in tuned}
    result = json.loads(painters(*both, "--no-encoder").out)
    assert (result["cells"], result["found"]) == (CELLS, CELLS)


def test_quick_is_the_smaller_grid(painters: Call, folder: Path) -> None:
    result = json.loads(painters("sweep", f"{folder}/both.yaml", "--quick", "--json").out)
    assert (result["done"], result["failures"], result["store"]) == (6 + 12, [], "runs/both")
    records = Store("runs/both").records()
    assert {record.documents for record in records} == {2, 4}
    assert {record.tuning.documents for record in records if record.tuning} == {10}


@pytest.mark.slow
def test_the_shipped_figures_take_other_models(painters: Call, folder: Path) -> None:
    import transformers

    from painters.nano.pieces import build_bert_tokenizer

    words = build_bert_tokenizer()
    sizes = {"hidden_size": 16, "num_hidden_layers": 12, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=len(words), **sizes)).save_pretrained("bert")
    words.save_pretrained("bert")
    result = json.loads(
        painters(
            *("sweep", "fig4", "fig7", "fig8", "--quick", "--limit", "2", "--json"),
            *("--model", f"{folder}/llama", "--encoder", "bert"),
        ).out
    )
    assert (result["failures"], result["store"]) == ([], "runs/sweep")
    assert result["done"] == result["cells"] > 100


# -------------------------------------------------------------------------------------------------------- what it costs


def test_the_papers_figures_are_estimated_without_torch_or_network(tmp_path: Path) -> None:
    arguments = (
        *("sweep", "paper/fig11", "--plan-only", "--json"),
        *("--model", "meta-llama/Llama-2-7b-hf", "--encoder", "google-bert/bert-large-uncased"),
    )
    code = f"import sys; from painters import cli; sys.argv = ['painters', *{arguments!r}]\n"
    code += "try: cli.main()\nexcept SystemExit as end: print('LOADED', end.code, 'torch' in sys.modules)"
    root = str(ROOT)
    environment = os.environ | {"PYTHONPATH": root}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False, env=environment
    )
    printed_json, _, end = done.stdout.partition("LOADED ")
    assert end.split() == ["0", "False"], done.stderr
    found = json.loads(printed_json)
    assert found["cells"] == found["missing"] > 3000
    assert 1 < found["hours"] < found["hours_alone"]
    assert 0 < found["layer_runs"] < found["layer_runs_alone"]
    assert found["no_estimate"] == []
    assert list(tmp_path.iterdir()) == []


def test_the_estimate_is_called_one(painters: Call, folder: Path) -> None:
    found = painters("sweep", "paper/fig4", "--plan-only", "--no-encoder", "--tflops", "1000")
    assert found.code == 0, found.err
    text = " ".join(found.out.split())
    for words in ("85 cells are an estimate from parameters (1000 TFLOPS, utilisation 0.3", "seconds = layer runs x"):
        assert words in text
    assert "hours about" in text
    assert found.err == ""
    painters("sweep", f"{folder}/grid.yaml", "--limit", "1", "--quiet")
    text = " ".join(painters("sweep", f"{folder}/grid.yaml", "--limit", "2", "--plan-only").out.split())
    # alone (6 + 1 + 3 + 5 + 6 + 6) x 2 documents x 2 tasks; shared (6 + 0 + 1 + 2 + 5 + 4) x 2 x 2
    assert "missing 12 distinct plans 6 layer runs 72 shared, 108 alone (1.50 times) hours about" in text
    assert "Shared: common prefixes of plans run once" in text
    assert "Those seconds already include what sharing saved" in text
    assert "Hours of 12 cells: from the seconds of this store's records" in text
    text = " ".join(painters("sweep", f"{folder}/grid.yaml", "--plan-only", "--out", "empty").out.split())
    assert "hours not known" in text
    assert "No estimate for" in text
    assert not Path("empty").exists()


# ------------------------------------------------------------------------------------------------------------- mistakes

MISTAKES: dict[str, tuple[tuple[str, ...], int, tuple[str, ...]]] = {
    "nothing to sweep": (("sweep",), 2, ("EXPERIMENT",)),
    "an unknown experiment": (("sweep", "fig77"), 2, ("'fig77'", "fig4", "paper/fig4")),
    "a file that is not there": (("sweep", "{tmp}/x.yaml"), 2, ("x.yaml", "No such file")),
    "a malformed file": (("sweep", "{folder}/wrong.yaml"), 2, ("line 5", "'skp'", "did you mean 'skip'")),
    "an encoder and none": (("sweep", "fig4", "--encoder", "x", "--no-encoder"), 2, ("one of the two",)),
    "an encoder where none is asked": (("sweep", "fig2", "--encoder", "x"), 2, ("--encoder x", "fig2", "leave it out")),
    "no quick form": (("sweep", "{folder}/grid.yaml", "--quick"), 2, ("no quick form",)),
    "a limit of nothing": (("sweep", "fig4", "--limit", "0"), 2, ("--limit",)),
    "tflops for a sweep": (("sweep", "fig4", "--tflops", "3"), 2, ("--plan-only",)),
    "a model that is not there": (("sweep", "fig2", "--model", "nobody/nothing"), 1, ("nobody/nothing",)),
    "a store that is a file": (("sweep", "{folder}/grid.yaml", "--out", "{folder}/grid.yaml"), 1, ("grid.yaml",)),
    "workers of one process": (("sweep", "fig4", "--workers", "2"), 2, ("--workers belongs to --engine ray",)),
    "workers for figures": (("reproduce", "4", "--workers", "2"), 2, ("--workers belongs to --engine ray",)),
    "an unknown engine": (("sweep", "fig4", "--engine", "rayon"), 2, ("'rayon'", "'local', 'ray'")),
    "a window that is not there": (("sweep", "{folder}/big.yaml"), 2, ("start 9", "6-layer")),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_message_and_its_exit_code(painters: Call, folder: Path, mistake: str) -> None:
    (folder / "big.yaml").write_text((folder / "grid.yaml").read_text().replace("start: all", "start: 9"))
    arguments, code, says = MISTAKES[mistake]
    found = painters(*(argument.replace("{folder}", str(folder)) for argument in arguments))
    assert found.code == code, found.err
    message = " ".join(found.err.replace("│", " ").split())
    for words in says:
        assert words in message or words in "".join(message.split()), found.err
    assert "Traceback" not in found.err
    assert found.out == ""
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    "command", [("sweep", "{folder}/grid.yaml"), ("reproduce", "4", "--out", "new", "--limit", "1")]
)
def test_without_ray_the_message_says_how_to_have_it(
    painters: Call, folder: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    found = painters(*(word.replace("{folder}", str(folder)) for word in command), "--engine", "ray", "--quiet")
    assert found.code == 1
    assert found.err.split() == (
        "painters: engine ray: Ray is not installed. To have it: pip install 'painters[ray]'".split()
    )
    assert found.out == ""


def test_engines_by_name(folder: Path, tmp_path: Path) -> None:
    grid, store = load(folder / "grid.yaml"), Store(tmp_path)
    with pytest.raises(ExperimentError, match="engine 'rayon': there is no such engine; choose local or ray"):
        sweep.run(grid, store, engine="rayon")
    with pytest.raises(ExperimentError, match="workers=2 with the engine local, which is one process"):
        sweep.run(grid, store, workers=2)


# --------------------------------------------------------------------------------------------------------- interruption


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_cleanly_and_says_how_to_go_on(
    painters: Call, folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    monkeypatch.setattr("painters.sweep.eta.EVERY", -1.0)
    monkeypatch.setattr("painters.sweep.chunks.FIRST", 4)
    report = _progress._Lines.__call__

    def send(self: Any, now: Progress) -> None:
        report(self, now)
        if now.done == 4 and now.share > 0:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(_progress._Lines, "__call__", send)
    handler = signal.getsignal(signal.SIGTERM)
    found = painters("sweep", f"{folder}/grid.yaml", "--out", "a store")
    assert found.code == code
    assert "Traceback" not in found.err
    assert "kept in a store; to go on:" in found.err
    assert f"painters sweep {folder}/grid.yaml --out 'a store'" in found.err
    assert signal.getsignal(signal.SIGTERM) == handler
    monkeypatch.setattr(_progress._Lines, "__call__", report)
    again = painters("sweep", f"{folder}/grid.yaml", "--out", "a store")
    assert (rows(again.out)["found"], rows(again.out)["done"]) == ("4", "8")
    painters("sweep", f"{folder}/grid.yaml", "--out", "whole")
    assert content(Path("a store")) == content(Path("whole"))


@pytest.mark.slow
def test_killed_at_ten_random_moments(folder: Path, tmp_path: Path) -> None:
    """The command as it is started, killed with SIGKILL anywhere: while it imports, loads, trains, scores or writes."""
    text = (folder / "both.yaml").read_text()
    more = "{name: reverse, start: all}\n  - {name: shuffle, start: [0, 1], seed: 0..9}"
    (folder / "many.yaml").write_text(text.replace("{name: reverse, start: all}", more))
    arguments = [sys.executable, "-m", "painters", "sweep", str(folder / "many.yaml"), "--quiet", "--out"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def start(out: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*arguments, str(tmp_path / out)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

    def finish(process: subprocess.Popen[bytes]) -> None:
        _, stderr = process.communicate()
        assert process.returncode == 0, stderr.decode()

    finish(start("whole"))
    moments, sizes = random.Random(0), []
    for _ in range(10):
        process = start("killed")
        deadline, before = time.monotonic() + 300, len(Store(tmp_path / "killed").records())
        wanted = moments.choice((0, 0, 1, 1, 2))  # cells more than before; 0: at once, somewhere within the start
        while wanted and process.poll() is None and time.monotonic() < deadline:
            if len(Store(tmp_path / "killed").records()) >= before + 2 * wanted:
                break
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.1 if wanted else 4))
        process.kill()
        process.communicate()
        sizes.append(len(Store(tmp_path / "killed").records()))
    total = len(content(tmp_path / "whole"))
    # Cells are kept in chunks, the first of 16: few sizes, but kills fall into and between all of them.
    assert len({size for size in sizes if 0 < size < total}) >= 2, f"kills at the wrong moments: {sizes} of {total}"
    finish(start("killed"))
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


# ------------------------------------------------------------------------------------------------------------- progress


def test_lines_of_progress_are_few(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with _progress.showing(Console(width=20)) as on_progress:
        assert on_progress is not None
        for done in range(200):
            now[0] += 1
            on_progress(
                Progress(done, 200, f"skip start={done} on task", 0.0, float(done), None if done < 15 else 61.0)
            )
        on_progress(Progress(200, 200, "the last", 0.0, 200.0, 0.0))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "Loading libraries and models",
        "[  0/200] skip start=0 on task; 0:00:00 elapsed, time left not known yet",
        "[ 10/200] skip start=10 on task; 0:00:10 elapsed, time left not known yet",
    ]
    assert lines[3] == "[ 20/200] skip start=20 on task; 0:00:20 elapsed, about 0:01:01 left"
    assert lines[-1] == "[200/200] done; 0:03:20 elapsed"
    assert len(lines) == 1 + 20 + 1


def test_a_bar_in_a_terminal() -> None:
    import io

    from rich.console import Console

    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with _progress.showing(console) as on_progress:
        assert on_progress is not None
        on_progress(Progress(3, 12, "skip start=1 on nano_arc", 0.5, 7.0, 61.0))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for words in ("skip start=1 on nano_arc", "3/12 cells", "about 0:01:01 left"):
        assert words in text
    with _progress.showing(None) as silent:
        assert silent is None


def test_the_folder_has_the_name_of_the_experiment(tmp_path: Path) -> None:
    assert sweep.records_folder(["fig4"]) == Path("runs/fig4")
    assert sweep.records_folder(["paper/fig4"]) == Path("runs/paper-fig4")
    assert sweep.records_folder([str(tmp_path / "mine.yaml")]) == Path("runs/mine")
    assert sweep.records_folder(["fig4", "fig5"]) == Path("runs/sweep")
    assert sweep.records_folder(["4"]) == sweep.records_folder(["04", "fig4"]) == Path("runs/fig4")


def test_an_encoder_alone_is_not_asked_of_a_decoder() -> None:
    alone = Experiment.model_validate(
        {"title": "a", "encoder": {"models": "x", "tasks": "cola", "variants": "identity", "tuning": "frozen"}}
    )
    assert len(alone.parts) == 1
