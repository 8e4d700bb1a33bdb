"""Run the notebooks as the tests do; as a script (`make notebooks`) keep what they show."""

from __future__ import annotations

import copy
import os
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def read(path: Path) -> NotebookNode:
    """The notebook."""
    return nbformat.read(path, as_version=4)


def records() -> list[Path]:
    """The committed records, which 02 reads."""
    return sorted((ROOT / "results").rglob("*.jsonl"))


def workplace(folder: Path) -> Path:
    """A copy of the notebooks in `folder`, with a copy of the records beside it as in the repository."""
    shutil.copytree(ROOT / "results", folder / "results")
    return Path(shutil.copytree(ROOT / "notebooks", folder / "notebooks"))


def execute(path: Path, scratch: Path) -> NotebookNode:
    """The notebook as it is after a run from top to bottom, in its own folder.

    A fresh kernel, without network, that writes nothing to the home folder; `scratch` is where it keeps temporary
    files. Raises CellExecutionError at the first cell that fails.
    """
    own = Path(tempfile.mkdtemp())
    scratch.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "IPYTHONDIR": str(own),
        "OMP_NUM_THREADS": "1",  # torch adds up in the same order on every machine
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "PYTHONWARNINGS": "ignore:IProgress not found",  # advice to install widgets for bars, from other libraries
        "TQDM_DISABLE": "1",  # how long a bar is there depends on the machine
        "TMPDIR": str(scratch),
        "TORCHINDUCTOR_CACHE_DIR": str(own),  # torch makes it whether or not anything is compiled
    }
    environment.pop("MPLBACKEND", None)  # the kernel's own shows figures, the tests' does not
    book = read(path)
    client = NotebookClient(
        book,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
        coalesce_streams=True,  # what was printed is one output, however the kernel cut it
    )
    try:
        return client.execute(env=environment)
    finally:
        shutil.rmtree(own)


def write(book: NotebookNode, path: Path) -> None:
    """Write the notebook, always with the same bytes: without ids, times or versions of this run."""
    path.write_text(text(book), encoding="utf-8")


def text(book: NotebookNode) -> str:
    """What a notebook's file holds."""
    book = copy.deepcopy(book)
    book.metadata = nbformat.from_dict(METADATA)
    book.nbformat_minor = 5  # the first with ids of cells
    for number, cell in enumerate(book.cells):
        cell.id = f"cell-{number:02d}"
        cell.metadata = nbformat.from_dict({})
    nbformat.validate(book)
    return nbformat.writes(book) + "\n"


def main(names: list[str]) -> None:
    """Run the notebooks named, or all, and keep their outputs in them."""
    for path in NOTEBOOKS:
        if names and path.stem not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            here = workplace(Path(folder)) / path.name
            write(execute(here, Path(folder) / "scratch"), path)
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main([Path(name).stem for name in sys.argv[1:]])
