"""The page itself: our template, style and scripts in one file that nothing else has to be fetched for."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from painters import __version__
from painters.report.pictures import NotDrawn, Picture
from painters.report.settings import COLUMNS, ModelSettings

PARTS = Path(__file__).parent / "static"
SCRIPTS = ("statistics.js", "data.js", "table.js", "compare.js", "page.js")


def page(
    title: str,
    content: Mapping[str, Any],
    models: Sequence[ModelSettings],
    pictures: Sequence[Picture],
    not_drawn: Sequence[NotDrawn],
    left_out: Sequence[str],
) -> str:
    """The HTML. Whatever records say is escaped, in the page and inside its JSON; only our own scripts may run."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PARTS),
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
        content=content,
        columns=COLUMNS,
        models=models,
        pictures=pictures,
        not_drawn=not_drawn,
        left_out=left_out,
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def _read(name: str) -> str:
    return (PARTS / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """The text's digest as a content security policy has it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
