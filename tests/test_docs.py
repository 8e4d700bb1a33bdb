"""What the pages under docs/ say is so."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from painters.stack import HALVES

DOCS = Path(__file__).parent.parent / "docs"


def between(page: str, marks: str) -> str:
    found = re.search(rf"<!-- {marks} -->\n(.*?)\n<!-- /{marks} -->", (DOCS / page).read_text(), re.DOTALL)
    assert found is not None
    return found.group(1)


def test_the_classes_whose_halves_are_known() -> None:
    expected = textwrap.fill(", ".join(sorted(HALVES)) + ".", 150)
    assert between("halves.md", "classes") == expected, f"docs/halves.md has to list:\n{expected}"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks for it
def test_healing(capsys: pytest.CaptureFixture[str]) -> None:
    """The page's recipe gives about the numbers that it shows, and makes up for most of what the skip cost."""
    pytest.importorskip("peft", reason="needs pip install -e '.[dev]'")
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "training.md").read_text(), re.DOTALL)
    exec(compile(code, "training.md", "exec"), {"__name__": "page"})
    found, shown = (
        [float(number) for number in re.findall(r"\d\.\d{3}", text)]
        for text in (capsys.readouterr().out, between("training.md", "healed"))
    )
    assert found == pytest.approx(shown, abs=0.02)
    intact, skipped, healed = found
    assert healed - intact < 0.25 * (skipped - intact)
