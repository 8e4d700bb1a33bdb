"""Random and hostile inputs against what painters promises of them; `make fuzz` runs it, `python -m fuzz --help` tells."""

from __future__ import annotations

from fuzz.running import Part


def parts() -> dict[str, Part]:
    """Name -> part; what needs torch is loaded here and not before."""
    from fuzz.plan_texts import PLANS, RULES

    return {part.name: part for part in (PLANS, RULES)}
