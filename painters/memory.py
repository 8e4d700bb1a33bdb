"""Memory that does not suffice: how to tell, and how to have back what a forward that failed has left."""

from __future__ import annotations

import gc
import sys
import traceback

from painters.errors import PaintersError

__all__ = ["MemoryExhausted", "free", "is_exhausted", "without_locals"]

TEXTS = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
"""What devices and torch's allocator on the CPU say in errors that have no class of their own."""


class MemoryExhausted(PaintersError):
    """A forward that has no room, and that cannot be cut smaller without changing the number."""


def is_exhausted(error: BaseException) -> bool:
    """Whether memory did not suffice, that of a device or of the machine."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in TEXTS)


def free() -> None:
    """Nothing; memory that nobody refers to is free, also for other libraries than torch."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def without_locals(error: Exception) -> Exception:
    """`error`, which is kept, without the local variables of where it was raised: they hold what a forward held."""
    one: BaseException | None = error
    while one is not None:
        traceback.clear_frames(one.__traceback__)
        one = one.__cause__ or one.__context__
    return error
