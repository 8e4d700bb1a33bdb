"""`python -m painters.nano`: rebuild the bundled tasks and the bundled model from their seeds."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)


class BundledModel(StrEnum):
    """The bundled models."""

    LLAMA = "nano-llama"
    BERT = "nano-bert"


ModelOption = Annotated[BundledModel, typer.Option("--model", help="Which of the bundled models.")]
RunFolder = Annotated[
    Path | None,
    typer.Option(help="Folder of the training run: checkpoints and log. Default: runs/ and the model's name."),
]


def _folder(run: Path | None, model: BundledModel) -> Path:
    """Return the folder of the training run; by default `runs/` and the model's name."""
    return run or Path("runs") / model.value


@app.command()
def tasks() -> None:
    """Write the documents of the bundled tasks, the encoder's tasks included."""
    from painters.nano.make_glue import write_glue
    from painters.nano.make_tasks import write_tasks

    for path in (*write_tasks(), *write_glue()):
        typer.echo(path)


@app.command()
def train(
    run: RunFolder = None,
    seed: Annotated[int, typer.Option(help="Seed of weights and data.")] = 0,
    steps: Annotated[int | None, typer.Option(help="Steps of the whole run; default: the recipe's.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
    model: ModelOption = BundledModel.LLAMA,
) -> None:
    """Train a model, or resume its run where it stopped."""
    import torch

    from painters.nano.encoder.train import EncoderRecipe, EncoderTrainer, probe_encoder
    from painters.nano.probe import probe, report
    from painters.nano.train import Recipe, Trainer

    torch.set_num_threads(threads)
    options = {"seed": seed} if steps is None else {"seed": seed, "steps": steps}
    trainer: Trainer | EncoderTrainer
    if model is BundledModel.BERT:
        trainer = EncoderTrainer(EncoderRecipe(**options), _folder(run, model), device)
    else:
        trainer = Trainer(Recipe(**options), _folder(run, model), device)
    for row in trainer.run():
        left = (trainer.recipe.steps - trainer.step) * row["seconds"] / max(row["step"], 1)
        status = f"loss {row['loss']:.3f}  {left / 60:.0f} min left"
        typer.echo(f"{trainer.folder}: step {row['step']:.0f}/{trainer.recipe.steps}  {status}")
        if trainer.step % 500 == 0:
            shares = probe(trainer.network) if isinstance(trainer, Trainer) else probe_encoder(trainer.network)
            typer.echo("  " + report(shares))


@app.command("all")
def everything(run: RunFolder = None, model: ModelOption = BundledModel.LLAMA) -> None:
    """Rebuild everything: tasks, training, folder, card. Takes hours; stop and resume at any time."""
    tasks()
    train(run, model=model)
    publish(run, model)
    card(model)


@app.command()
def publish(run: RunFolder = None, model: ModelOption = BundledModel.LLAMA) -> None:
    """Write a trained model into the package as a Hugging Face folder."""
    from painters.nano import publish as write
    from painters.nano.encoder.train import EncoderTrainer
    from painters.nano.train import Trainer

    if model is BundledModel.BERT:
        typer.echo(write.publish_encoder(EncoderTrainer.resume(_folder(run, model))))
    else:
        typer.echo(write.publish(Trainer.resume(_folder(run, model))))


@app.command()
def card(model: ModelOption = BundledModel.LLAMA) -> None:
    """Measure a bundled model on its tasks, with lm-eval or by fine-tuning, and write its model card."""
    if model is BundledModel.BERT:
        from painters.nano.encoder.card import measure, write_encoder_card

        typer.echo(write_encoder_card(measure()))
        return

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
