"""Pages of the site that lie elsewhere in the repository, sections that pages include, and the links to both."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]

# They are on the site under the paths that they have here.
PAGES = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "benchmarks/README.md",
    "experiments/README.md",
    "notebooks/README.md",
    "painters/nano/bert/README.md",
    "painters/nano/llama/README.md",
    "results/README.md",
)
BESIDES = ("results/figures/*.png", "results/figures/*.svg", "notebooks/*.ipynb")

INCLUDE = re.compile(r"^<!-- include: (\S+?)#(\S+) -->$", re.MULTILINE)
LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
FENCED = re.compile(r"^(```|~~~).*?^\1[ \t]*$", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The files of docs/ and those from elsewhere."""
    from mkdocs.structure.files import File

    for path in (*PAGES, *(str(found.relative_to(ROOT)) for name in BESIDES for found in sorted(ROOT.glob(name)))):
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page with what it includes, every link to a file of the repository turned to where the site has it."""
    here = {Path(file.abs_src_path).resolve(): file.src_uri for file in files if file.abs_src_path}
    return expanded(markdown, Path(page.file.abs_src_path or ""), page.file.src_uri, here)


def expanded(markdown: str, source: Path, uri: str, here: dict[Path, str]) -> str:
    """The text of the page `uri` out of the file `source`; `here` says where the site has a file."""
    made = []
    for place, text in parts(markdown):
        made.append(linked(text, (source if place is None else place).parent, uri, here))
    return "".join(made)


def parts(markdown: str) -> Iterator[tuple[Path | None, str]]:
    """The text in its parts: (None, its own), (file, the section of that file that it includes)."""
    end = 0
    for found in INCLUDE.finditer(markdown):
        yield None, markdown[end : found.start()]
        yield ROOT / found[1], section(ROOT / found[1], found[2])
        end = found.end()
    yield None, markdown[end:]


def section(path: Path, anchor: str) -> str:
    """What stands below the heading with this anchor, without it, up to the next heading; KeyError if there is none."""
    text = path.read_text(encoding="utf-8")
    plain = FENCED.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)  # a comment in code is no heading
    headings = list(re.finditer(r"^#+ (.*)\n", plain, re.MULTILINE))
    ends = [heading.start() for heading in headings[1:]] + [len(text)]
    for heading, end in zip(headings, ends, strict=True):
        if re.sub(r"[^\w -]", "", heading[1]).strip().lower().replace(" ", "-") == anchor:
            return text[heading.end() : end].strip("\n")
    raise KeyError(f"{path} has no heading #{anchor}")


def linked(markdown: str, folder: Path, uri: str, here: dict[Path, str]) -> str:
    """The text of a file in `folder` with its links as they are on the page `uri`."""

    def turned(found: re.Match[str]) -> str:
        target = here.get((folder / found[2]).resolve())
        return found[0] if target is None else found[1] + posixpath.relpath(target, posixpath.dirname(uri)) + found[3]

    return outside_code(markdown, lambda text: LINK.sub(turned, text))


def outside_code(markdown: str, change: Callable[[str], str]) -> str:
    """The text with `change` made to all of it but blocks of code."""
    made, end = [], 0
    for found in FENCED.finditer(markdown):
        made += [change(markdown[end : found.start()]), found[0]]
        end = found.end()
    return "".join([*made, change(markdown[end:])])
