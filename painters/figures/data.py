"""The data of the figures: a decoder's scores, an encoder's for each way of fine-tuning, similarities."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from painters import results
from painters.experiment.tuning import PROTOCOLS
from painters.figures.score_table import FigureError, ScoreTable
from painters.models.naming import assign_names, display_name, display_names
from painters.results import Record
from painters.results.files import in_reading_order, read_intact, report_faults
from painters.results.lines import Fault
from painters.results.similarity_record import SimilarityRecord, holds_similarities


@dataclass(frozen=True, eq=False)
class Data:
    """Everything that figures are drawn from. Make it from records with `Data.of`.

    A record that says how the model was fine-tuned is one of an encoder, any other one of a decoder.

    Attributes:
        decoder: The decoder's scores; None without records of one.
        encoders: The encoder's scores by fine-tuning protocol.
        similarities: Similarities of hidden states.
        names: What records call each model -> the name by which it is shown.

    Examples:
        >>> from painters import figures
        >>> data = figures.Data.of([])
        >>> data.decoder is None
        True
        >>> figures.draw(4, data, "figures")
        Traceback (most recent call last):
        ...
        painters.figures.score_table.NothingToDraw: no records of skip over any window. Figure 4 needs skip over all
        windows, every task, and the intact model
    """

    decoder: ScoreTable | None = None
    encoders: Mapping[str, ScoreTable] = field(default_factory=dict)
    similarities: tuple[SimilarityRecord, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        records: Sequence[Record],
        similarities: Sequence[SimilarityRecord] = (),
        *,
        model: str | None = None,
        encoder: str | None = None,
        names: Mapping[str, str] | None = None,
    ) -> Data:
        """Collect the data of one decoder and one encoder.

        Args:
            records: Scores, in any order. Only primary metrics are drawn.
            similarities: Similarities of hidden states.
            model: The decoder, as records or figures call it; needed where the records are of several.
            encoder: The encoder, as records or figures call it; needed where the records are of several.
            names: What records call a model -> the name to show it by. By default that which the records hold, or else
                a short one made from the path (`painters.models.naming.display_name`).

        Returns:
            The data to draw from.

        Raises:
            FigureError: There are several decoders or encoders and none is named, none of that name, or records of a
                task under protocols that cannot be compared.
        """
        primary = [record for record in records if record.primary]
        shown = shown_names(records, similarities, names)
        model, encoder = _as_recorded(model, shown), _as_recorded(encoder, shown)
        measured = {record.model for record in similarities}
        decoded = _of_one_model([r for r in primary if r.tuning is None], model, "model", measured, shown)
        by_protocol: dict[str, list[Record]] = defaultdict(list)
        for record in _of_one_model([r for r in primary if r.tuning is not None], encoder, "encoder", measured, shown):
            if record.tuning:
                by_protocol[record.tuning.protocol].append(record)
        tables = {name: by_protocol[name] for name in PROTOCOLS if _any_value(by_protocol[name])}
        measured_here = [r for r in similarities if None in (model, encoder) or r.model in (model, encoder)]
        # Models in one figure are told apart; those of other figures need not be.
        drawn = {r.model for table in (decoded, *tables.values()) for r in table} | {r.model for r in measured_here}
        shown = shown_names(
            [r for r in records if r.model in drawn], [r for r in similarities if r.model in drawn], names
        )
        return cls(
            ScoreTable.of(decoded, shown[decoded[0].model]) if _any_value(decoded) else None,
            {name: ScoreTable.of(table, shown[table[0].model]) for name, table in tables.items()},
            tuple(measured_here),
            shown,
        )

    @property
    def score_tables(self) -> list[ScoreTable]:
        """The decoder's scores, if any, then the encoder's for each fine-tuning protocol."""
        return [*([self.decoder] if self.decoder else []), *self.encoders.values()]

    def name_of(self, model: str) -> str:
        """Return the name by which a model of the records is shown."""
        return self.names.get(model) or display_name(model)


def names_given(
    names: Sequence[str], records: Iterable[Record], similarities: Iterable[SimilarityRecord] = ()
) -> dict[str, str]:
    """Return the names of models that a command line gives, as `Data.of` takes them.

    Args:
        names: Each `NAME`, which names the only decoder, or `MODEL=NAME`. A model is named as records or figures do.
        records: The scores.
        similarities: The similarities of hidden states.

    Returns:
        What records call a model -> the name to show it by, for the models that were named.

    Raises:
        ModelNameError: A name cannot be shown, there is no such model, or it is unclear which model is meant.

    Examples:
        >>> from painters import figures
        >>> figures.names_given([], [])
        {}
    """
    if not names:
        return {}
    records, similarities = list(records), list(similarities)
    encoders = {record.model for record in records if record.tuning is not None}
    decoders = {record.model for record in records} - encoders
    measured = {record.model for record in similarities} - encoders
    # A model that was only measured may be either: it counts as a decoder where there is no other.
    others = measured - decoders if decoders else set()
    return assign_names(names, sorted(decoders or measured), sorted(encoders | others))


def shown_names(
    records: Iterable[Record], similarities: Iterable[SimilarityRecord], names: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the names by which models are shown, different ones for different models.

    Args:
        records: The scores.
        similarities: The similarities of hidden states.
        names: Names that count before those in the records, as `names_given` returns them.

    Returns:
        What records call each model -> the name by which it is shown: that in `names`, or that of the latest record
        with a name, or a short one made from the path.

    Examples:
        >>> from painters import figures
        >>> from painters.harness import score
        >>> from painters.models import load_model
        >>> records = score(*load_model("nano-llama"), "0-10", "nano_arc", limit=2)
        >>> figures.shown_names(records, [], {"nano-llama": "a small llama"})
        {'nano-llama': 'a small llama'}
    """
    fields = [(record.date, record.model, record.name) for record in records]
    fields += [(record.date, record.model, record.name) for record in similarities]
    chosen = {model: name for _, model, name in sorted(fields, key=lambda field: field[0]) if name}
    models = {model for _, model, _ in fields}
    return display_names(sorted(models), {**chosen, **(names or {})})


def read(paths: Iterable[str | Path]) -> tuple[list[Record], list[SimilarityRecord]]:
    """Read the records and similarities in files.

    Damaged lines are left out, and a `ResultsWarning` names them. Of several scores of one cell the first one read is
    kept.

    Args:
        paths: Files and folders. A folder stands for all `.jsonl` files in it, at any depth.

    Returns:
        The scores, and the similarities of hidden states.

    Raises:
        FigureError: A path does not exist, or a folder holds no `.jsonl` file.
        ResultsError: A file cannot be read.

    Examples:
        >>> from pathlib import Path
        >>> from painters import experiment, figures, results, sweep
        >>> text = "{title: Two layers, models: [nano-llama], tasks: [nano_lambada], protocol: {limit: 2},"
        >>> _ = Path("two.yaml").write_text(text + "variants: [{name: skip-layer, layer: [3, 4]}]}")
        >>> summary = sweep.run(experiment.load("two.yaml"), results.Store("runs"), progress=False)
        >>> records, similarities = figures.read(["runs"])
        >>> sorted({record.plan for record in records})
        ['0-11', '0-2 4-11', '0-3 5-11']
        >>> figures.Data.of(records).decoder.model
        'nano-llama'
    """
    scores: dict[str, Record] = {}
    similarities: dict[str, SimilarityRecord] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise FigureError(f"records of {path}: there is no such file or folder. `painters sweep` writes one")
        files = in_reading_order(file for file in path.rglob("*.jsonl") if file.is_file()) if path.is_dir() else [path]
        if not files:
            raise FigureError(f"records of {path}: the folder holds no .jsonl file. `painters sweep` writes some")
        left_out: list[Fault] = []
        for file in files:
            if holds_similarities(file):
                measured, faults = read_intact(file, SimilarityRecord)
                similarities |= {record.key: record for record in measured}
            else:
                scored, faults = read_intact(file, Record)
                for record in scored:
                    scores.setdefault(results.key(record), record)
            left_out += faults
        report_faults(left_out, path)
    return list(scores.values()), list(similarities.values())


def _as_recorded(name: str | None, shown: Mapping[str, str]) -> str | None:
    """Return what records call the model `name`, which may be the name by which it is shown."""
    return name if name in shown else next((model for model, text in shown.items() if text == name), name)


def _of_one_model(
    records: Sequence[Record], name: str | None, option: str, measured: set[str], shown: Mapping[str, str]
) -> list[Record]:
    """Return the records of the model `name`, or of the only one; FigureError where it is unclear which is meant.

    `measured` names the models with similarities, for which records of scores may be absent. `shown` holds the name by
    which each model is shown.
    """
    models = sorted({record.model for record in records})
    listed = ", ".join(shown[model] for model in models)
    if name is not None and name not in models and name not in measured:
        held = f"the files hold records of {listed}" if models else f"the files hold records of no {option}"
        raise FigureError(f"no records of the {option} {name!r}: {held}")
    if name is None and len(models) > 1:
        raise FigureError(f"records of {len(models)} models ({listed}): choose one with --{option}")
    return [record for record in records if name is None or record.model == name]


def _any_value(records: Iterable[Record]) -> bool:
    """Return whether one of the records has a value."""
    return any(record.value is not None and not record.not_finite for record in records)
