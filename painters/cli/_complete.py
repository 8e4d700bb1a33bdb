"""Completion in shells: the scripts, and the values of options that are known without loading a model."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

import typer
from typer import completion

from painters import variants
from painters.models import bundled as bundled_models
from painters.models import fetched
from painters.similarity import MODES

NAME, VARIABLE = "painters", "_PAINTERS_COMPLETE"
Shell = StrEnum("Shell", ["bash", "zsh", "fish", "powershell", "pwsh"])
register = completion.completion_init
"""Must be called before arguments are completed."""


def variant_names() -> list[tuple[str, str]]:
    """Return the variants, each with what it does."""
    return [(variant.name, variant.summary) for variant in variants.VARIANTS.values()]


def model_names() -> list[str]:
    """Return the models with a name; shells add folders and files."""
    return [*bundled_models.models(), *fetched.MODELS]


def task_names(incomplete: str) -> list[str]:
    """Return the bundled tasks; after a comma, those that are not in the list yet."""
    before, comma, _ = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in _tasks() if name not in before.split(",")]


def input_names() -> list[str]:
    """Return the bundled tasks whose texts `painters similarity` can read; shells add the files."""
    return list(_tasks())


def experiment_names() -> list[str]:
    """Return the experiments that come with painters; shells add the files."""
    from painters.experiment import shipped

    return list(shipped())


def figure_numbers() -> list[tuple[str, str]]:
    """Return the numbers of the figures, each with its title."""
    from painters.figures import FIGURES

    return [("all", "every figure"), *((str(figure.number), figure.title) for figure in FIGURES.values())]


def modes() -> list[str]:
    """Return the modes in which similarity is measured."""
    return [*MODES, "all"]


def devices() -> list[str]:
    """Return the kinds of device that a model may run on."""
    return ["cpu", "cuda", "mps"]


def stacks() -> list[str]:
    """Return the names of stacks of layers."""
    return ["encoder", "decoder", "vision"]


def _tasks() -> Iterable[str]:
    """Return the names of the bundled tasks; their module is imported only when tasks are completed."""
    from painters.tasks import bundled

    return bundled()


def _show(shell: Shell | None) -> None:
    """Print the completion script of `shell`, and exit."""
    if shell is not None:
        typer.echo(completion.get_completion_script(prog_name=NAME, complete_var=VARIABLE, shell=shell.value))
        raise typer.Exit


def _install(shell: Shell | None) -> None:
    """Write the completion script of `shell` where the shell looks for it, and exit."""
    if shell is not None:
        _, path = completion.install(shell=shell.value, prog_name=NAME, complete_var=VARIABLE)
        typer.echo(f"Written to {path}; it works in the next shell that you open")
        raise typer.Exit


ShowOption = Annotated[
    Shell | None,
    typer.Option("--show-completion", callback=_show, is_eager=True, help="Print a shell's completion script."),
]
InstallOption = Annotated[
    Shell | None,
    typer.Option("--install-completion", callback=_install, is_eager=True, help="Set up completion in a shell."),
]
