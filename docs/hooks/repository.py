"""Add pages from elsewhere in the repository to the site, include sections, and adapt their links."""

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

# The site has them under the same paths as the repository.
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
ASSETS = ("results/figures/*.png", "results/figures/*.svg", "notebooks/*.ipynb")

INCLUDE = re.compile(r"^<!-- include: (\S+?)#(\S+) -->$", re.MULTILINE)
LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
FENCED = re.compile(r"^(```|~~~).*?^\1[ \t]*$", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Return the files of docs/ and those from elsewhere in the repository."""
    from mkdocs.structure.files import File

    for path in (*PAGES, *(str(file.relative_to(ROOT)) for pattern in ASSETS for file in sorted(ROOT.glob(pattern)))):
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return the page with its inclusions, and with links to files as the site has them."""
    locations = {Path(file.abs_src_path).resolve(): file.src_uri for file in files if file.abs_src_path}
    return expanded(markdown, Path(page.file.abs_src_path or ""), page.file.src_uri, locations)


def expanded(markdown: str, source: Path, uri: str, locations: dict[Path, str]) -> str:
    """Return the text of page `uri` from the file `source`; `locations` maps files to pages of the site."""
    expanded_parts = []
    for included, text in parts(markdown):
        folder = (source if included is None else included).parent
        expanded_parts.append(linked(text, folder, uri, locations))
    return "".join(expanded_parts)


def parts(markdown: str) -> Iterator[tuple[Path | None, str]]:
    """Yield the parts of the text: (None, own text) and (file, included section of that file), in turn."""
    end = 0
    for match in INCLUDE.finditer(markdown):
        yield None, markdown[end : match.start()]
        yield ROOT / match[1], section(ROOT / match[1], match[2])
        end = match.end()
    yield None, markdown[end:]


def section(path: Path, anchor: str) -> str:
    """Return the text between the heading with this anchor and the next; KeyError if there is none."""
    text = path.read_text(encoding="utf-8")
    plain = FENCED.sub(lambda block: re.sub(r"[^\n]", " ", block[0]), text)  # a comment in code is no heading
    headings = list(re.finditer(r"^#+ (.*)\n", plain, re.MULTILINE))
    ends = [heading.start() for heading in headings[1:]] + [len(text)]
    for heading, end in zip(headings, ends, strict=True):
        if re.sub(r"[^\w -]", "", heading[1]).strip().lower().replace(" ", "-") == anchor:
            return text[heading.end() : end].strip("\n")
    raise KeyError(f"{path} has no heading #{anchor}")


def linked(markdown: str, folder: Path, uri: str, locations: dict[Path, str]) -> str:
    """Return the text of a file in `folder` with its links as the page `uri` needs them."""

    def adapted(link: re.Match[str]) -> str:
        target = locations.get((folder / link[2]).resolve())
        return link[0] if target is None else link[1] + posixpath.relpath(target, posixpath.dirname(uri)) + link[3]

    return outside_code(markdown, lambda text: LINK.sub(adapted, text))


def outside_code(markdown: str, change: Callable[[str], str]) -> str:
    """Return the text with `change` applied to all of it except blocks of code."""
    changed, end = [], 0
    for block in FENCED.finditer(markdown):
        changed += [change(markdown[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*changed, change(markdown[end:])])
