"""The errors of models. They stand by themselves so that a name can be refused before any library is loaded."""

from __future__ import annotations

from painters.errors import PaintersError

__all__ = ["LayersUnknownError", "ModelError", "ModelRequestError"]


class ModelError(PaintersError, ValueError):
    """A model that cannot be loaded, or that cannot be scored this way."""


class ModelRequestError(ModelError):
    """An invalid request for a model, such as an unknown device or dtype."""

    exit_code = 2


class LayersUnknownError(ModelError):
    """A model whose configuration does not state how many layers it has; it may be loaded nevertheless."""
