"""The commands put together, and the function that runs them.

A mistake gets one message and no traceback.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from painters import __version__
from painters.cli import _complete
from painters.cli._console import err, plain
from painters.cli._errors import EXIT_CODES, STOPPED, USAGE, exit_code_of, format_error
from painters.cli._stop import stoppable
from painters.cli._terminal import write_all_characters
from painters.cli._warnings import short_warnings
from painters.cli.doctor import doctor
from painters.cli.export import export
from painters.cli.list import list_models, list_tasks, list_variants
from painters.cli.plot import plot
from painters.cli.report import report
from painters.cli.reproduce import reproduce
from painters.cli.run import run
from painters.cli.show import show
from painters.cli.similarity import similarity
from painters.cli.sweep import sweep
from painters.ranks import launched_as

DISTRIBUTED = {"run", "sweep", "reproduce", "lm-eval"}
"""Commands that all processes of `accelerate launch` run together; the main process runs the others alone."""

app = typer.Typer(
    add_completion=False,  # painters' own options take the name of the shell
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Operate on the layers of frozen transformers, and measure what it costs.",
    epilog="Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + ".",
)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    show_completion: _complete.ShowOption = None,
    install_completion: _complete.InstallOption = None,
) -> None:
    """Answer the options of `painters` itself, and silence all processes but the main one."""
    if version:
        typer.echo(f"painters {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(USAGE)
    rank = launched_as()
    if context.invoked_subcommand not in DISTRIBUTED:
        os.environ.pop("WORLD_SIZE", None)
        if rank:
            raise typer.Exit
    elif rank:  # the main process prints
        err.quiet = True
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 (until the process ends)


for command in (run, show, similarity, sweep, plot, report, reproduce, doctor):
    app.command()(command)


@app.command(
    name="lm-eval",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False},
)
def lm_eval(context: typer.Context) -> None:
    """Run lm-eval's own command line, with `--model painters` for plans, and with the bundled tasks.

    painters lm-eval --model painters --model_args "pretrained=nano-llama,plan=0-2 {3-8} 9-11" --tasks nano_arc
    """
    from painters.harness.lm_eval_cli import lm_eval_command

    lm_eval_command(context.args)


app.command()(export)
app.command(name="variants")(list_variants)
app.command(name="models")(list_models)
app.command(name="tasks")(list_tasks)


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    write_all_characters()
    if plain():
        from typer import rich_utils  # the module that prints help

        rich_utils.FORCE_TERMINAL = False
    _complete.register()
    try:
        with short_warnings(), stoppable():
            code = app(prog_name=_complete.NAME, standalone_mode=False)
            if code == STOPPED:  # typer turns KeyboardInterrupt into this code
                raise KeyboardInterrupt
    except Exception as error:
        code = exit_code_of(error)
        if code is None or os.environ.get("PAINTERS_TRACEBACK"):
            raise
        _exit(format_error(error), code)
    sys.exit(code or 0)


def _exit(message: str, code: int) -> NoReturn:
    """Print `message` and exit; only the main process prints what all processes of a run see."""
    if code in (USAGE, STOPPED) and launched_as():
        sys.exit(code)
    # Not through rich, which would wrap lines: a caret must stay under its character.
    sys.stderr.write(f"painters: {message}\n")
    sys.exit(code)
