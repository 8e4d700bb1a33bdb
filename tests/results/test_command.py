"""Every record says which command wrote it, without secrets and machine paths."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.outcome import Outcome

from painters import results
from painters.results import command

# the arguments -> the command as it is recorded
COMMANDS = {
    "as it is": (["sweep", "fig4", "--quick"], "painters sweep fig4 --quick"),
    "quoted": (["run", "--plan", "0-3 {4-8}*3 9-11"], "painters run --plan '0-3 {4-8}*3 9-11'"),
    "the working folder": (["sweep", "{cwd}/grid.yaml", "--out={cwd}/a/b"], "painters sweep grid.yaml --out=a/b"),
    "the working folder itself": (["sweep", "fig4", "--out", "{cwd}"], "painters sweep fig4 --out ."),
    "home": (["run", "--model", "{home}/models/x", "--out=~/r"], "painters run --model '~/models/x' '--out=~/r'"),
    "another folder": (["run", "--model", "{home}er/x"], "painters run --model {home}er/x"),
    "within an argument": (["lm-eval", "--model_args", "pretrained={home}/m,plan=0-1"],
                           "painters lm-eval --model_args 'pretrained=~/m,plan=0-1'"),
    "a token": (["run", "--model", "x", "hf_abcdefghijklmnop"], "painters run --model x '***'"),
    "a token by name": (["lm-eval", "--model_args", "pretrained=x,token=abc,plan=0-1"],
                        "painters lm-eval --model_args 'pretrained=x,token=***,plan=0-1'"),
    "a password": (["run", "--model", "https://me:secret@host/x"], "painters run --model 'https://***@host/x'"),
    "one as long as may be": (["run", "--tasks", "a" * 979], "painters run --tasks " + "a" * 979),
    "a long one": (["run", "--tasks", "a," * 900], "painters run --tasks " + "a," * 489 + "…"),
}  # fmt: skip


@pytest.mark.parametrize("program", ["/usr/bin/painters", "C:/bin/painters.exe", "/site-packages/painters/__main__.py"])
@pytest.mark.parametrize("name", COMMANDS)
def test_commands(name: str, program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, recorded = COMMANDS[name]
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    def filled(text: str) -> str:
        return text.replace("{cwd}", str(tmp_path / "work")).replace("{home}", str(tmp_path / "home"))

    monkeypatch.setattr(sys, "argv", [program, *map(filled, arguments)])
    assert command() == filled(recorded)


@pytest.mark.parametrize("arguments", [["script.py", "run"], [""], [], ["-c"], ["pytest/__main__.py"]])
def test_programs_that_call_painters(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", arguments)
    assert command() == "python"


def test_records_have_their_command(painters: Callable[..., Outcome], tmp_path: Path) -> None:
    arguments = ("run", "--plan", "0-10", "--tasks", "nano_lambada", "--limit", "1", "--out", "{tmp}/r.jsonl")
    assert painters(*arguments).code == 0
    commands = {record.command for record in results.read(tmp_path / "r.jsonl")}
    assert commands == {"painters run --plan 0-10 --tasks nano_lambada --limit 1 --out r.jsonl"}
