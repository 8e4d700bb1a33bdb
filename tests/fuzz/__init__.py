"""Random and hostile inputs against what painters promises of them: `make fuzz`, or `python -m fuzz --help`."""

from __future__ import annotations

from fuzz.running import Part


def parts() -> dict[str, Part]:
    """Name -> part; what needs torch is loaded here and not before."""
    from fuzz.experiment_files import FILES, GRIDS
    from fuzz.plan_texts import PLANS, RULES

    return {part.name: part for part in (PLANS, RULES, FILES, GRIDS)}
