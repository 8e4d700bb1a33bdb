"""`python -m painters.nano`: rebuild the bundled tasks and the bundled model from their seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)

RUN = Path("runs/nano-llama")
Run = Annotated[Path, typer.Option(help="Folder of the training run: checkpoints and log.")]


@app.command()
def tasks() -> None:
    """Write the documents of the five bundled tasks."""
    from painters.nano.make_tasks import write_tasks

    for path in write_tasks():
        typer.echo(path)


@app.command()
def train(
    run: Run = RUN,
    seed: Annotated[int, typer.Option(help="Seed of weights and data.")] = 0,
    steps: Annotated[int | None, typer.Option(help="Steps of the whole run; default: the recipe's.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
) -> None:
    """Train the model, or go on where its run stopped."""
    import torch

    from painters.nano.probe import probe, report
    from painters.nano.train import Recipe, Trainer

    torch.set_num_threads(threads)
    recipe = Recipe(seed=seed) if steps is None else Recipe(seed=seed, steps=steps)
    trainer = Trainer(recipe, run, device)
    for row in trainer.run():
        left = (recipe.steps - trainer.step) * row["seconds"] / max(row["step"], 1)
        typer.echo(f"step {row['step']:.0f}/{recipe.steps}  loss {row['loss']:.3f}  {left / 60:.0f} min left")
        if trainer.step % 500 == 0:
            typer.echo("  " + report(probe(trainer.network)))


@app.command("all")
def everything(run: Run = RUN) -> None:
    """Rebuild everything: tasks, training, folder, card. Hours; stop and repeat it at will."""
    tasks()
    train(run)
    publish(run)
    card()


@app.command()
def publish(run: Run = RUN) -> None:
    """Write the trained model into the package as a Hugging Face folder."""
    from painters.nano.publish import publish as write
    from painters.nano.train import Trainer

    typer.echo(write(Trainer.resume(run)))


@app.command()
def card() -> None:
    """Measure the bundled model on its tasks with lm-eval and write its model card."""
    import platform

    import torch
    import transformers

    from painters.harness import evaluate
    from painters.nano.make_tasks import FILES
    from painters.nano.publish import Score, write_card

    table = evaluate("nano-llama", "0-11", list(FILES), batch_size=32)
    scores = {
        row.task: Score(row.metric, row.value, row.stderr, row.chance, row.documents)
        for row in table.itertuples()
        if row.primary
    }
    versions = (
        f"torch {torch.__version__}, transformers {transformers.__version__}, Python {platform.python_version()}."
    )
    typer.echo(write_card(scores, f"fp32 on a CPU; {versions}"))


if __name__ == "__main__":
    app()
