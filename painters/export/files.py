"""Write a folder that appears complete or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from painters.errors import PaintersError

MARGIN = 16 * 2**20
"""Bytes for the files beside the weights."""


class ExportError(PaintersError, ValueError):
    """A plan that cannot be exported as requested, or a folder that cannot be written."""


class ExportRequestError(ExportError):
    """An invalid request, whatever the model is."""

    exit_code = 2


def check_target(to: Path, *, force: bool) -> None:
    """Raise ExportError where `to` holds something that an export must not replace."""
    if not to.exists():
        return
    if not to.is_dir():
        raise ExportRequestError(f"export to {to}: there is a file of this name; name a folder")
    names = sorted(entry.name for entry in to.iterdir())
    if not names:
        return
    if not force:
        raise ExportRequestError(
            f"export to {to}: the folder holds {len(names)} entries ({', '.join(names[:3])}"
            f"{', …' if len(names) > 3 else ''}); name another, or replace it whole with --force (force=True)"
        )
    if "config.json" not in names:
        raise ExportRequestError(
            f"export to {to} with --force: it holds no config.json, so it is no checkpoint, and only checkpoints "
            "are replaced; name another folder"
        )


def check_space(to: Path, size: int) -> None:
    """Raise ExportError where the disk of `to` lacks room for `size` bytes of weights."""
    parent = next(folder for folder in to.parents if folder.is_dir())
    free = shutil.disk_usage(parent).free
    if free < size + MARGIN:
        raise ExportError(
            f"export to {to}: the weights take {readable(size)}, and {readable(free)} are free there; make room or "
            "name a folder on another disk. Nothing was written"
        )


def readable(size: int) -> str:
    """Return a number of bytes in words, such as `7.8 MB`.

    Args:
        size: Bytes.

    Returns:
        The number with a decimal unit, B to GB.

    Examples:
        >>> from painters.export import readable
        >>> readable(7_800_000)
        '7.8 MB'
    """
    value, units = float(size), iter(("B", "kB", "MB", "GB"))
    unit = next(units)
    while value >= 1000 and unit != "GB":
        value, unit = value / 1000, next(units)
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"


@contextmanager
def written_whole(to: Path) -> Iterator[Path]:
    """Yield a new folder beside `to`; move it to `to` at the end of the context, or delete it where that raises.

    What was at `to` is deleted only when the new folder is complete. ExportError where the disk is full.
    """
    to = to.resolve()
    to.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{to.name}-unfinished-", dir=to.parent))
    try:
        yield partial
        umask = os.umask(0)
        os.umask(umask)
        partial.chmod(0o777 & ~umask)  # mkdtemp's folders are for their owner alone
        _move(partial, to)
    except (OSError, SafetensorError) as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
            raise ExportError(
                f"export to {to}: the disk became full; make room or name a folder on another disk. The unfinished "
                "folder was deleted"
            ) from error
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _move(partial: Path, to: Path) -> None:
    """Rename `partial` to `to`; where that fails, what was at `to` comes back."""
    if not to.exists() or not any(to.iterdir()):
        partial.replace(to)
        return
    replaced = partial.with_name(f"{partial.name}-replaced")
    to.rename(replaced)
    try:
        partial.rename(to)
    except BaseException:
        replaced.rename(to)
        raise
    shutil.rmtree(replaced)
