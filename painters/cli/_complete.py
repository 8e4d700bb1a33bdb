"""Completion in shells: its scripts, and the values that are known without loading a model."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

import typer
from typer import completion

from painters import variants
from painters.models import bundled
from painters.similarity import MODES

NAME, VARIABLE = "painters", "_PAINTERS_COMPLETE"
Shell = StrEnum("Shell", ["bash", "zsh", "fish", "powershell", "pwsh"])
register = completion.completion_init
"""To be called before arguments are completed."""


def variant_names() -> list[tuple[str, str]]:
    """The variants, with what they do."""
    return [(variant.name, variant.summary) for variant in variants.VARIANTS.values()]


def model_names() -> list[str]:
    """The bundled models; shells add the folders."""
    return list(bundled.models())


def task_names(incomplete: str) -> list[str]:
    """The bundled tasks; after a comma, those that are not there yet."""
    before, comma, _ = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in _tasks() if name not in before.split(",")]


def input_names() -> list[str]:
    """The bundled tasks that `painters similarity` can take as texts; shells add the files."""
    return list(_tasks())


def experiment_names() -> list[str]:
    """The experiments that come with painters; shells add the files."""
    from painters.experiment import shipped

    return list(shipped())


def figure_numbers() -> list[tuple[str, str]]:
    """The figures, with their titles."""
    from painters.figures import FIGURES

    return [("all", "every figure"), *((str(figure.number), figure.title) for figure in FIGURES.values())]


def modes() -> list[str]:
    """How similarity is measured."""
    return [*MODES, "all"]


def devices() -> list[str]:
    """Where a model may run."""
    return ["cpu", "cuda", "mps"]


def stacks() -> list[str]:
    """The lists of layers that have a name."""
    return ["encoder", "decoder", "vision"]


def _tasks() -> Iterable[str]:
    from painters.tasks import bundled as found

    return found()


def _show(shell: Shell | None) -> None:
    if shell is not None:
        typer.echo(completion.get_completion_script(prog_name=NAME, complete_var=VARIABLE, shell=shell.value))
        raise typer.Exit


def _install(shell: Shell | None) -> None:
    if shell is not None:
        _, path = completion.install(shell=shell.value, prog_name=NAME, complete_var=VARIABLE)
        typer.echo(f"Written to {path}; it works in the next shell that you open")
        raise typer.Exit


ShowOption = Annotated[
    Shell | None,
    typer.Option("--show-completion", callback=_show, is_eager=True, help="Print the completion of a shell."),
]
InstallOption = Annotated[
    Shell | None,
    typer.Option("--install-completion", callback=_install, is_eager=True, help="Set the completion of a shell up."),
]
