"""A report without a browser: what the page holds, that nothing in it can run or reach out, and its statistics."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.fake_records import record
from support.outcome import Outcome
from support.reports import (
    HOSTILE,
    INTACT,
    Tags,
    check_statistics,
    data_of,
    hostile_records,
    some_records,
)

import painters as package
from painters import results
from painters.experiment.tuning import Tuning
from painters.models.naming import display_name
from painters.report import ReportError, report
from painters.report.data import pack, payload
from painters.report.page import STATIC
from painters.results import Record, intervals


def written(records: list[Record], folder: Path, **options: Any) -> str:
    results.append(folder / "records.jsonl", records)
    return report(folder, folder / "report.html", **options).path.read_text(encoding="utf-8")


# ------------------------------------------------------------------------------------------------------------- the page


def test_the_page_holds_every_record_and_asks_for_nothing(tmp_path: Path) -> None:
    records = some_records()
    page = written(records, tmp_path, with_figures=False)
    rows = data_of(page)["rows"]
    assert [*zip(rows["low"], rows["high"], strict=True)] == [
        intervals.interval(one) or (None, None) for one in records
    ]
    for name in ("value", "stderr", "seconds"):
        assert rows[name] == [getattr(one, name) for one in records]
    assert [rows["variant"]["texts"][number] for number in rows["variant"]["numbers"]][:3] == [
        *("", "skip start=4", "reverse start=4")
    ]
    plans = data_of(page)["plans"]
    assert [plans[number]["text"] for number in rows["plan"]] == [one.plan for one in records]
    assert all(plan["svg"].startswith("<svg ") for plan in plans)
    for tag, attributes in Tags(page).tags:
        assert tag not in ("link", "iframe", "object", "base")
        assert not {"src", "href", "action"} & set(attributes) or (attributes.get("href") or "").startswith("#")
        assert not any(name.startswith("on") or name == "style" for name in attributes)


def test_the_comparison_with_intact_is_that_of_the_frame(tmp_path: Path) -> None:
    records = some_records()
    rows = data_of(written(records, tmp_path, with_figures=False))["rows"]
    frame = results.frame(records)
    assert rows["difference"] == frame["difference"].tolist()
    assert rows["error"] == frame["difference_stderr"].tolist()
    assert rows["normalised"] == frame["normalised"].tolist()


def test_the_policy_allows_our_script_and_style_alone(tmp_path: Path) -> None:
    page = written(some_records(), tmp_path, with_figures=False)
    tags = Tags(page)
    [policy] = [a["content"] for tag, a in tags.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")
    [style] = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    for kind, text in (("script", tags.scripts[1]), ("style", style)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert len(tags.scripts) == 2


def test_hostile_records_are_words(tmp_path: Path) -> None:
    page = written(hostile_records(), tmp_path, title=HOSTILE)
    tags = Tags(page)
    assert len(tags.scripts) == 2
    assert not any("owned" in str(attributes.get("onerror")) for _, attributes in tags.tags)
    assert "<script>document" not in page
    assert "49" not in "".join(tags.words)  # {{7*7}}
    assert HOSTILE in "".join(tags.words)
    data = data_of(page)
    assert data["groups"][0]["model"] == display_name(HOSTILE)
    assert [plan.get("svg") is None for plan in data["plans"]] == [False, False, True]
    assert "svg" not in data["plans"][2]


def test_captions_and_settings_say_everything(tmp_path: Path) -> None:
    page = written(some_records(), tmp_path)
    words = " ".join("".join(Tags(page).words).split())
    [line] = re.findall(r"All settings: (.*?)\.\s*(?=Missing)", words)[:1]
    for word in (
        *("model fake-llama", "dtype float32", "device cpu", "attention sdpa", "tasks fake_arc, fake_gsm8k"),
        *("documents 60", "limit not recorded", "shots 0", "seed 1234", "batch size 32", "batching lm-eval"),
        *("kv exact", "versions lm_eval 0"),
    ):
        assert word in line
    assert "Figure 3. How alike the states of the layers are, of fake-llama: " in words  # and why it is not drawn


def test_encoders_have_their_tuning_and_come_after_decoders(tmp_path: Path) -> None:
    tuned = record(INTACT, "fake_cola", 1.0, protocol="frozen")
    page = written([tuned, *some_records()], tmp_path, with_figures=False)
    assert [group["model"] for group in data_of(page)["groups"]] == ["fake-llama", "fake-bert"]
    assert data_of(page)["groups"][1]["tuning"] == Tuning(protocol="frozen").model_dump()
    assert "protocol frozen, epochs 3" in page


def test_records_that_no_figure_can_mix_are_still_told(tmp_path: Path) -> None:
    one = record(INTACT, "fake_arc", 1.0)
    page = written([one, one.model_copy(update={"seed": 7})], tmp_path)
    assert "All figures of fake-llama: records of fake-llama on fake_arc under 2 protocols" in page
    assert len(data_of(page)["rows"]["value"]) == 2


def test_the_same_records_make_the_same_bytes(tmp_path: Path) -> None:
    first = written(some_records(), tmp_path / "a", with_figures=False)
    assert written(some_records(), tmp_path / "b", with_figures=False) == first


def test_two_models_of_one_name_are_two_groups() -> None:
    one = record(INTACT, "fake_arc", 1.0)
    content = payload([one, one.model_copy(update={"weights": "e" * 12})]).content
    assert [group["weights"] for group in content["groups"]] == ["f" * 12, "e" * 12]


@pytest.mark.parametrize("outcomes", [(1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0), (-0.25, -3.5), ()])
def test_outcomes_are_packed(outcomes: tuple[float, ...]) -> None:
    count, packed = pack(outcomes)
    data = base64.b64decode(packed)
    if count >= 0:
        assert tuple(float(data[place >> 3] >> (7 - place % 8) & 1) for place in range(count)) == outcomes
    else:
        assert struct.unpack(f"<{-count}f", data) == outcomes


def test_too_many_outcomes_are_left_out_and_said_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("painters.report.data.MOST_OUTCOMES", 30)
    monkeypatch.setattr("painters.report.data.MOST_DRAWN", 1)
    records = some_records()
    results.append(tmp_path / "records.jsonl", records)
    made = report(tmp_path, tmp_path / "report.html", with_figures=False)
    assert made.warnings[0] == "left out: drawings of 2 plans; 1 are drawn"
    assert made.warnings[1].startswith("left out: the outcomes by document of 4 records")
    page = made.path.read_text()
    assert all(warning.removeprefix("left out: ") in page for warning in made.warnings)
    assert sum(number is None for number in data_of(page)["rows"]["outcomes"]) == 4


# -------------------------------------------------------------------------------------------------- Python and commands


def test_painters_report_is_the_function_and_the_module(tmp_path: Path) -> None:
    results.append(tmp_path / "r.jsonl", some_records())
    made = package.report(tmp_path / "r.jsonl", tmp_path / "deep" / "page.html", with_figures=False)
    assert (made.path, made.records, made.plans, made.figures) == (tmp_path / "deep" / "page.html", 6, 3, ())
    assert made.bytes == made.path.stat().st_size
    assert package.report.ReportError is ReportError  # type: ignore[attr-defined]


def test_a_report_needs_no_torch(tmp_path: Path) -> None:
    results.append(tmp_path / "r.jsonl", some_records())
    code = f"""
import sys
sys.modules["torch"] = sys.modules["transformers"] = sys.modules["lm_eval"] = None  # an import of them fails
sys.argv = ["painters", "report", {str(tmp_path)!r}, "--out", {str(tmp_path / "page.html")!r}, "--quiet"]
from painters.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "6 records of 3 plans" in done.stdout
    page = (tmp_path / "page.html").read_text()
    assert page.count('src="data:image/svg+xml;base64,') > 2
    assert data_of(page)["plans"][0]["svg"].startswith("<svg ")


def test_a_folder_without_scores_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(ReportError, match=r"^report of .*: there are no records\. `painters run`"):
        report(tmp_path)


def test_the_command(painters: Callable[..., Outcome], tmp_path: Path) -> None:
    results.append(tmp_path / "records.jsonl", some_records())
    out = tmp_path / "page.html"
    done = painters("report", str(tmp_path), "--out", str(out), "--title", "Mine", "--json", "--no-figures")
    assert done.code == 0
    assert json.loads(done.out) == {
        **{"report": str(out), "bytes": out.stat().st_size, "records": 6, "plans": 3, "figures": [], "warnings": []}
    }
    assert "<title>Mine</title>" in out.read_text()


# ----------------------------------------------------------------------------------------------------------- statistics


@pytest.mark.skipif(shutil.which("node") is None, reason="no node to run JavaScript in; a browser's tests check it too")
def test_the_statistics_of_the_page() -> None:
    source = (STATIC / "statistics.js").read_text()

    def run(expression: str) -> Any:
        code = f"{source}\nprocess.stdout.write(JSON.stringify({expression}))"
        done = subprocess.run(["node", "-"], input=code, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    check_statistics(run)
