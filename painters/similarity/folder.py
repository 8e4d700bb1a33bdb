"""Find out whether records can be kept in a folder, before a measurement is made for it."""

from __future__ import annotations

import tempfile
from pathlib import Path

__all__ = ["check_folder"]


def check_folder(out: str | Path) -> None:
    """Raise an error where records of similarity cannot be kept in the folder of records `out`.

    Folders that are made for the check are removed again.

    Args:
        out: The folder of records; it need not exist.

    Raises:
        SimilarityError: A file is there.
        OSError: The folder cannot be made or written to.

    Examples:
        >>> check_folder("runs")
        >>> Path("runs").exists()
        False
    """
    from painters.results.similarity_record import folder_of

    folder = folder_of(out)
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass
    for path in created:
        path.rmdir()
