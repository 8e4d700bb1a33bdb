"""The command line: arguments in, one call, tables out.

Exit codes: 0 done, 1 failure, 2 wrong usage, 130 stopped by Ctrl-C. A mistake gets one message and no traceback.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from painters import __version__
from painters._cli_console import err
from painters._cli_export import export
from painters._cli_list import list_models, list_tasks, list_variants
from painters._cli_options import FAILURE
from painters._cli_plot import plot
from painters._cli_report import report
from painters._cli_reproduce import reproduce
from painters._cli_run import run
from painters._cli_show import show
from painters._cli_similarity import similarity
from painters._cli_sweep import sweep

TOGETHER = {"run", "sweep", "lm-eval"}
"""Commands that the processes of `accelerate launch` do together; others are the main one's alone."""

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Operate on the layers of frozen transformers, and score what it costs.",
)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"painters {__version__}")
        raise typer.Exit
    rank = int(os.environ.get("RANK", "0"))
    if context.invoked_subcommand not in TOGETHER:
        os.environ.pop("WORLD_SIZE", None)
        if rank:
            raise typer.Exit
    elif rank:  # the main process says it all
        err.quiet = True
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 (until the process ends)


for command in (run, show, similarity, sweep, plot, report, reproduce):
    app.command()(command)


@app.command(
    name="lm-eval",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False},
)
def lm_eval(context: typer.Context) -> None:
    """lm-eval's own command line, where `--model painters` runs a plan and the bundled tasks are known.

    painters lm-eval --model painters --model_args "pretrained=nano-llama,plan=0-2 {3-8} 9-11" --tasks nano_arc
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from painters._harness_command import lm_eval_command

    lm_eval_command(context.args)


app.command()(export)
app.command(name="variants")(list_variants)
app.command(name="models")(list_models)
app.command(name="tasks")(list_tasks)


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    try:
        app()
    except Exception as error:
        code = _code(error)
        if code is None or os.environ.get("PAINTERS_TRACEBACK"):
            raise
        _stop(_text(error), code)
    sys.exit(0)


def _code(error: Exception) -> int | None:
    """The exit code of an error that a user can cause; None for what must be a fault of painters."""
    code = getattr(error, "exit_code", None)
    if isinstance(code, int):
        return code
    return FAILURE if isinstance(error, OSError) else None


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror}{where}. Nothing that was recorded before is lost."
    return str(error)


def _stop(message: str, code: int) -> NoReturn:
    # Not through rich: a caret must stay under its place, and brackets are no markup here.
    sys.stderr.write(f"painters: {message}\n")
    sys.exit(code)
