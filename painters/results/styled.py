"""A DataFrame of scores that notebooks show with number formats, bold differences and bars."""

from __future__ import annotations

import hashlib
from typing import Any

import pandas as pd

__all__ = ["BARS", "BOLD", "FORMATS", "StyledDataFrame", "styled"]

FORMATS = {
    **dict.fromkeys(("value", "stderr", "low", "high", "intact", "difference_stderr", "chance"), "{:.3f}"),
    "difference": "{:+.3f}",
    "normalised": "{:.2f}",
    "seconds": "{:.1f}",
}
BOLD = "Bold: more than two paired standard errors from the intact model."
BARS = "Bars: 0 is chance, 1 the intact model."


class StyledDataFrame(pd.DataFrame):  # type: ignore[misc]
    """A DataFrame of scores whose HTML is styled; selections from it are styled too.

    In everything else it is a plain DataFrame.
    """

    @property
    def _constructor(self) -> type[StyledDataFrame]:
        return StyledDataFrame

    def _repr_html_(self) -> str | None:
        if not {"difference", "normalised"} & set(self.columns) or len(self) > pd.options.display.max_rows:
            plain: str | None = super()._repr_html_()
            return plain
        return str(styled(self).to_html())


def styled(table: pd.DataFrame) -> Any:
    """Return the pandas Styler of a table of scores: short numbers, large differences in bold, bars."""
    # Ids tie cells to their style: the same table must get the same HTML, and another table on the page other ids.
    digest = hashlib.sha256(table.to_csv().encode()).hexdigest()[:8]
    style = pd.DataFrame(table).style.set_uuid(digest)
    formats = {name: text for name, text in FORMATS.items() if name in table.columns}
    style = style.format(formats, na_rep="–", escape="html").format_index(escape="html")
    if "plan" in table.columns:
        style = style.set_properties(subset=["plan"], **{"white-space": "nowrap"})
    caption = []
    if {"difference", "difference_stderr"} <= set(table.columns):
        style = style.apply(_bold, axis=1, subset=["difference", "difference_stderr"])
        caption.append(BOLD)
    if "normalised" in table.columns:
        style = style.map(_bar, subset=["normalised"])
        caption.append(BARS)
    return style.set_caption(" ".join(caption)) if caption else style


def _bold(row: pd.Series[Any]) -> list[str]:
    """Return the CSS of a row's difference and of its standard error."""
    return ["font-weight: bold" if abs(row["difference"]) > 2 * row["difference_stderr"] else "", ""]


def _bar(value: float) -> str:
    """Return the CSS of a bar behind a normalised value; empty for NaN."""
    if value != value:
        return ""
    end = f"{100 * min(1.0, max(0.0, value)):.0f}%"
    # Half transparent, so that the number is readable in light and dark themes.
    return f"background: linear-gradient(90deg, rgba(0, 114, 178, 0.3) {end}, transparent {end})"
