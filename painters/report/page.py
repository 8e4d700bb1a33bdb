"""Render the page: template, style and scripts in one file, so that nothing else has to be fetched for it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from painters import __version__
from painters.report.pictures import NotDrawn, Picture
from painters.report.settings import COLUMNS, ModelSettings

__all__ = ["SCRIPTS", "STATIC", "PageParts", "render_page"]

STATIC = Path(__file__).parent / "static"
"""The folder of the template, the style and the scripts."""
SCRIPTS = ("statistics.js", "data.js", "table.js", "save.js", "compare.js", "page.js")
"""The scripts, in the order in which the page holds them."""


@dataclass(frozen=True, slots=True)
class PageParts:
    """What a page shows.

    Attributes:
        content: What the scripts read, as JSON takes it (`painters.report.data`).
        models: The settings of each model.
        pictures: The figures.
        not_drawn: The figures that are missing, with the reason.
        left_out: What was left out to keep the page small.
    """

    content: Mapping[str, Any]
    models: Sequence[ModelSettings]
    pictures: Sequence[Picture]
    not_drawn: Sequence[NotDrawn]
    left_out: Sequence[str]


def render_page(title: str, parts: PageParts) -> str:
    """Return the HTML of a page.

    Texts from records are escaped, in the page and in its JSON, and its content security policy lets nothing run but
    our own scripts.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(STATIC),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False, "ensure_ascii": False}
    style = _read("page.css")
    script = '"use strict";\n' + "".join(_read(name) for name in SCRIPTS)
    return environment.get_template("page.html").render(
        title=title,
        version=__version__,
        content=parts.content,
        columns=COLUMNS,
        models=parts.models,
        pictures=parts.pictures,
        not_drawn=parts.not_drawn,
        left_out=parts.left_out,
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def _read(name: str) -> str:
    """Return the text of a static file."""
    return (STATIC / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return the digest of a style or script, as a content security policy states it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
