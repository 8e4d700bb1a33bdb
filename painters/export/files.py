"""A folder that appears whole or not at all."""

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
"""Bytes for what lies beside the weights."""


class ExportError(PaintersError, ValueError):
    """A plan that cannot be written as asked, or a place where it cannot be written."""


class ExportRequestError(ExportError):
    """An export that cannot be meant."""

    exit_code = 2


def check_target(to: Path, *, force: bool) -> None:
    """Nothing; ExportError where something lies at `to` that an export would have to replace, and may not."""
    if not to.exists():
        return
    if not to.is_dir():
        raise ExportRequestError(f"export to {to}: there is a file of this name; name a folder")
    found = sorted(entry.name for entry in to.iterdir())
    if not found:
        return
    if not force:
        raise ExportRequestError(
            f"export to {to}: the folder holds {len(found)} entries ({', '.join(found[:3])}"
            f"{', …' if len(found) > 3 else ''}); name another, or replace it whole with --force (force=True)"
        )
    if "config.json" not in found:
        raise ExportRequestError(
            f"export to {to} with --force: it holds no config.json, so it is no checkpoint, and nothing but a "
            "checkpoint is replaced; name another folder"
        )


def check_space(to: Path, size: int) -> None:
    """Nothing; ExportError where the disk of `to` lacks room for `size` bytes of weights."""
    parent = next(folder for folder in to.parents if folder.is_dir())
    free = shutil.disk_usage(parent).free
    if free < size + MARGIN:
        raise ExportError(
            f"export to {to}: the weights take {readable(size)}, and {readable(free)} are free there; make room or "
            "name a folder on another disk. Nothing was written"
        )


def readable(size: int) -> str:
    """The number of bytes for people: `7.8 MB`."""
    value, units = float(size), iter(("B", "kB", "MB", "GB"))
    unit = next(units)
    while value >= 1000 and unit != "GB":
        value, unit = value / 1000, next(units)
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"


@contextmanager
def written_whole(to: Path) -> Iterator[Path]:
    """A folder beside `to` that takes its place at the end of the block, and is gone if the block raises.

    What was at `to` leaves only when the new one is complete. ExportError where the disk is full.
    """
    to = to.resolve()
    to.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{to.name}-unfinished-", dir=to.parent))
    try:
        yield partial
        umask = os.umask(0)
        os.umask(umask)
        partial.chmod(0o777 & ~umask)  # mkdtemp's folders are for their owner alone
        _put(partial, to)
    except (OSError, SafetensorError) as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
            raise ExportError(
                f"export to {to}: the disk became full; make room or name a folder on another disk. What was written "
                "is removed again"
            ) from error
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _put(partial: Path, to: Path) -> None:
    if not to.exists() or not any(to.iterdir()):
        partial.replace(to)
        return
    aside = partial.with_name(f"{partial.name}-replaced")
    to.rename(aside)
    try:
        partial.rename(to)
    except BaseException:
        aside.rename(to)
        raise
    shutil.rmtree(aside)
