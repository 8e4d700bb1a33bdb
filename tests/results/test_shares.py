"""Which metrics are shares, and that the table of run and the report show no others in per cent."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from support.records import record

from painters.cli.run_result import RunResult
from painters.plan import Plan
from painters.report.data import payload
from painters.results import Record
from painters.results.shares import is_share

# Metrics of lm-eval 0.4.13 and of GLUE, with the aggregation that a record names.
SHARES = [
    *(("acc", "mean"), ("acc_norm", "mean"), ("acc_bytes", "mean"), ("acc_mutual_info", "mean"), ("acc_all", "mean")),
    *(("exact_match", "mean"), ("exact_match,strict-match", "mean"), ("f1", "f1_score"), ("em", "nanmean")),
    *(("mcc", "matthews_corrcoef"), ("matthews", "matthews"), ("pearson", "pearson"), ("f1", "f1"), ("acc", "nanmean")),
    *(("prompt_level_strict_acc", "mean"), ("accuracy_amb", "mean"), ("rouge1_acc", "mean"), ("pass@1", "mean")),
]
OTHERS = [
    *(("perplexity", "perplexity"), ("word_perplexity", "weighted_perplexity"), ("bits_per_byte", "bits_per_byte")),
    *(("byte_perplexity", "weighted_perplexity"), ("bleu", "bleu"), ("chrf", "chrf"), ("chrf++", "chrfpp")),
    *(("ter", "ter"), ("brier_score", "brier_score"), ("likelihood", "mean"), ("bypass", "bypass_agg")),
    *(("rouge1", "mean"), ("bleurt_max", "mean"), ("score", "mean"), ("f1", "squad_agg"), ("fluency", "mean")),
]
# Metric, aggregation, the intact model's value, the plan's, and how the table shows the plan's.
SHOWN = [
    ("byte_perplexity", "weighted_perplexity", 27.7, 31.25, "31.2"),
    ("bits_per_byte", "bits_per_byte", 0.81, 0.8371, "0.837"),
    ("bleu", "bleu", 70.17, 61.3, "61.3"),
    ("ter", "ter", 4.25, 6.5, "6.50"),
    ("perplexity", "perplexity", 8.25, 9.5, "9.50"),
    ("f1", "mean", 81.5, 75.0, "75.0"),
    ("acc", "mean", 0.75, 0.5, "50.0"),
    ("exact_match,strict-match", "mean", 0.25, 0.125, "12.5"),
    ("mcc", "matthews_corrcoef", 0.5, -0.25, "-25.0"),
]


def _records(metric: str, aggregation: str, intact: float, value: float) -> list[Record]:
    fields = {"metric": metric, "aggregation": aggregation, "outcomes": None, "stderr": None, "chance": None}
    return [record(value=intact, **fields), record(plan="0-4", layer_runs=5, depth=5, value=value, **fields)]


@pytest.mark.parametrize(("metric", "aggregation"), SHARES)
def test_shares(metric: str, aggregation: str) -> None:
    assert is_share(metric, aggregation)
    assert is_share(metric, aggregation, [0.0, 1.0, None])
    assert not is_share(metric, aggregation, [0.5, 70.0])


@pytest.mark.parametrize(("metric", "aggregation"), OTHERS)
def test_everything_else_is_shown_as_measured(metric: str, aggregation: str) -> None:
    assert not is_share(metric, aggregation, [0.5])


@pytest.mark.parametrize(("metric", "aggregation", "intact", "value", "text"), SHOWN)
def test_the_table_of_run(metric: str, aggregation: str, intact: float, value: float, text: str) -> None:
    result = RunResult(Plan.parse("0-4"), None, "tiny", 6, _records(metric, aggregation, intact, value), Path("r"))
    console = Console(file=io.StringIO(), width=100)
    console.print(result.table(), result.footer())
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    row = next(line for line in printed.splitlines() if line.startswith("nano_arc"))
    assert row.split()[4] == text
    assert (f"but {metric} as measured" in printed) == (not is_share(metric, aggregation, [intact, value]))


@pytest.mark.parametrize(("metric", "aggregation", "intact", "value", "text"), SHOWN)
def test_the_report(metric: str, aggregation: str, intact: float, value: float, text: str) -> None:
    (setting,) = payload(_records(metric, aggregation, intact, value)).content["settings"]
    assert setting["share"] == (float(text) != pytest.approx(value, abs=0.06))
