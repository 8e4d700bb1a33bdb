"""Recognise that memory is exhausted, and release what a failed forward has left."""

from __future__ import annotations

import gc
import sys
import traceback

from painters.errors import PaintersError

__all__ = ["MemoryExhausted", "free", "is_exhausted", "without_locals"]

_MESSAGES = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
"""Parts of the messages of devices, and of torch's allocator on the CPU, whose errors have no class of their own."""


class MemoryExhausted(PaintersError):
    """A forward does not fit into memory, and a smaller one would change the number."""


def is_exhausted(error: BaseException) -> bool:
    """Return whether an error says that memory is exhausted, a device's or the machine's.

    Args:
        error: Any error.

    Returns:
        True for MemoryError, for torch's OutOfMemoryError, and for a RuntimeError with such a message.

    Examples:
        >>> is_exhausted(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"))
        True
        >>> is_exhausted(ValueError("out of memory"))
        False
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _MESSAGES)


def free() -> None:
    """Free the memory that nothing refers to, including what torch's allocator keeps on a GPU.

    Examples:
        >>> import weakref
        >>> class Node: ...
        >>> node = Node()
        >>> node.itself, reference = node, weakref.ref(node)
        >>> del node
        >>> free()
        >>> reference() is None
        True
    """
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def without_locals(error: Exception) -> Exception:
    """Clear the local variables of the functions that an error was raised in, and return the error.

    Whoever keeps an error also keeps these variables, and with them the tensors of the forward that failed.

    Args:
        error: The error. The errors that led to it are cleared too.

    Returns:
        `error` itself.

    Examples:
        >>> def work():
        ...     states = [0.0] * 1000
        ...     raise RuntimeError("out of memory")
        >>> try:
        ...     work()
        ... except RuntimeError as error:
        ...     kept = without_locals(error)
        >>> kept.__traceback__.tb_next.tb_frame.f_locals
        {}
    """
    current: BaseException | None = error
    while current is not None:
        traceback.clear_frames(current.__traceback__)
        current = current.__cause__ or current.__context__
    return error
