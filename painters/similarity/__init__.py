"""Compare the hidden states of a model: cosines, block influence, angles, norms.

The package is callable, as its function `similarity`: `painters.similarity` is the name of both. Importing it loads no
torch.
"""

from __future__ import annotations

import sys
from types import ModuleType

from painters.similarity.functions import (
    MODES,
    SimilarityError,
    angular_distance,
    block_influence,
    measure,
    norms,
    similarity,
)

__all__ = ["MODES", "SimilarityError", "angular_distance", "block_influence", "measure", "norms", "similarity"]


class _CallableModule(ModuleType):
    """The class of this package, which makes it callable as its function is."""

    __call__ = staticmethod(similarity)


sys.modules[__name__].__class__ = _CallableModule
