"""Compare the hidden states of a model: cosines, block influence, angles, norms.

The package is callable, as its function `similarity`: `painters.similarity` is the name of both. Importing it loads no
torch.
"""

from __future__ import annotations

from painters._lazy import make_callable
from painters.errors import SimilarityError
from painters.similarity.functions import (
    MODES,
    angular_distance,
    block_influence,
    measure,
    norms,
    similarity,
)

__all__ = ["MODES", "SimilarityError", "angular_distance", "block_influence", "measure", "norms", "similarity"]

make_callable(__name__, similarity)
