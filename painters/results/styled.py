"""The table of scores: a DataFrame that notebooks show with what stands out marked."""

from __future__ import annotations

import hashlib
from typing import Any

import pandas as pd

FORMATS = {
    **dict.fromkeys(("value", "stderr", "intact", "difference_stderr", "chance"), "{:.3f}"),
    "difference": "{:+.3f}",
    "normalised": "{:.2f}",
    "seconds": "{:.1f}",
}
BOLD = "Bold: more than two paired standard errors from the intact model."
BARS = "Bars: 0 is chance, 1 the intact model."


class Scores(pd.DataFrame):  # type: ignore[misc]
    """A DataFrame in everything but its HTML, and so is what is selected from it."""

    @property
    def _constructor(self) -> type[Scores]:
        return Scores

    def _repr_html_(self) -> str | None:
        if not {"difference", "normalised"} & set(self.columns) or len(self) > pd.options.display.max_rows:
            plain: str | None = super()._repr_html_()
            return plain
        return str(styled(self).to_html())


def styled(table: pd.DataFrame) -> Any:
    """The pandas Styler of a table of scores: numbers at readable length, large differences bold, bars."""
    # The same table has the same HTML; another one on the page has other ids, for they carry the style.
    digest = hashlib.sha256(table.to_csv().encode()).hexdigest()[:8]
    style = pd.DataFrame(table).style.set_uuid(digest)
    formats = {name: text for name, text in FORMATS.items() if name in table.columns}
    style = style.format(formats, na_rep="–", escape="html").format_index(escape="html")
    if "plan" in table.columns:
        style = style.set_properties(subset=["plan"], **{"white-space": "nowrap"})
    about = []
    if {"difference", "difference_stderr"} <= set(table.columns):
        style = style.apply(_bold, axis=1, subset=["difference", "difference_stderr"])
        about.append(BOLD)
    if "normalised" in table.columns:
        style = style.map(_bar, subset=["normalised"])
        about.append(BARS)
    return style.set_caption(" ".join(about)) if about else style


def _bold(row: pd.Series[Any]) -> list[str]:
    return ["font-weight: bold" if abs(row["difference"]) > 2 * row["difference_stderr"] else "", ""]


def _bar(value: float) -> str:
    if value != value:
        return ""
    end = f"{100 * min(1.0, max(0.0, value)):.0f}%"
    # Half transparent, so that it can be read in the light and in the dark.
    return f"background: linear-gradient(90deg, rgba(0, 114, 178, 0.3) {end}, transparent {end})"
