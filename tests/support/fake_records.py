"""Records of models that do not exist: numbers from a formula, for tests of figures. Nothing here was measured."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import numpy as np

from painters import variants
from painters.experiment.tuning import Tuning, TuningProtocol
from painters.plan import Plan
from painters.results import Record
from painters.results.similarity_record import SimilarityRecord
from painters.similarity import MODES

LAYERS, DOCUMENTS = 12, 60
# task -> chance, the intact model
DECODED: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "fake_arc": (0.25, 0.85),
        "fake_gsm8k": (0.0, 0.7),
        "fake_hellaswag": (0.25, 0.8),
        "fake_lambada": (0.0, 0.75),
        "fake_winogrande": (0.5, 0.9),
    }
)
TUNED: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"fake_cola": (0.7, 0.9), "fake_rte": (0.5, 0.85), "fake_sst2": (0.5, 0.95), "fake_sts": (0.0, 0.9)}
)
CORRELATED = "fake_sts"  # scored by a correlation, which is no mean of outcomes
WORST = {"skip": 0.9, "middle-repeat": 1.6, "reverse": 0.55, "shuffle": 0.4, "parallel": 0.65}


def record(
    plan: Plan,
    task: str,
    ability: float,
    *,
    protocol: TuningProtocol | None = None,
    documents: int = DOCUMENTS,
    **fields: object,
) -> Record:
    """A record in which each document is as hard for all plans; `ability` 0 is chance, 1 the intact model."""
    chance, intact = (TUNED if protocol else DECODED)[task]
    hardness = np.random.default_rng(zlib.crc32(task.encode())).random(documents)
    noise = np.random.default_rng(zlib.crc32(f"{plan} {task} {protocol} {fields.get('kv')}".encode()))
    target = chance + max(0.0, min(1.0, ability)) * (intact - chance)
    moved = 0 if ability == 1 else noise.normal(0, 0.04, documents)
    outcomes = tuple(float(value) for value in (hardness + moved < target))
    value = sum(outcomes) / documents
    base = {
        "plan": str(plan), "model": "fake-bert" if protocol else "fake-llama", "revision": None, "weights": "f" * 12,
        "num_layers": LAYERS, "dtype": "float32", "device": "cpu", "attention": "sdpa", "kv": "exact", "task": task,
        "task_version": "1", "documents": documents, "requests": f"{task} {documents}", "shots": 0, "seed": 1234,
        "batch_size": 32, "metric": "exact_match" if "gsm8k" in task else "acc", "aggregation": "mean",
        "higher_is_better": True, "primary": True, "value": value, "outcomes": outcomes, "chance": chance,
        "stderr": math.sqrt(value * (1 - value) / (documents - 1)), "not_finite": 0, "layer_runs": plan.layer_runs,
        "depth": plan.depth, "seconds": 1.0, "versions": {"lm_eval": "0"}, "date": "2026-01-01T00:00:00+00:00",
        "tuning": Tuning(protocol=protocol) if protocol else None,
    }  # fmt: skip
    correlated = {"metric": "pearson", "aggregation": "pearson", "outcomes": None} if task == CORRELATED else {}
    return Record.model_validate(base | correlated | fields)


def _asked() -> Iterator[tuple[str, dict[str, int], str, float]]:
    """variant, parameters, kv, and how much of the intact model's ability is left."""
    yield "identity", {}, "exact", 1.0
    for start in variants.windows(LAYERS):
        width = len(variants.window(LAYERS, start))
        lost = ((width - 1) / (LAYERS - 1)) ** 1.3
        for name in ("skip", "middle-repeat", "reverse"):
            yield name, {"start": start}, "exact", 1 - WORST[name] * lost - (0.1 if name == "skip" else 0)
        for seed in range(10):
            yield "shuffle", {"start": start, "seed": seed}, "exact", 1 - WORST["shuffle"] * lost - 0.02 * (seed % 4)
        for loops in range(1, 9):
            lack = abs(loops - 0.5 * width) / 12
            for kv, cost in (("exact", 0.0), ("averaged", 0.25 * lost)):
                if kv == "exact" or width > 1:
                    left = 1 - WORST["parallel"] * lost - lack * lost - cost
                    yield "parallel", {"start": start, "loops": loops}, kv, left
    for layer in range(LAYERS):
        left = 0.1 if layer == 0 else 0.93 - 0.02 * abs(layer - 6)
        yield "skip-layer", {"layer": layer}, "exact", left
        if layer < LAYERS - 1:
            yield "swap", {"layer": layer}, "exact", min(0.99, left + 0.05)


def records(documents: int = DOCUMENTS) -> list[Record]:
    """Everything that the figures need, of a decoder, and of an encoder under two protocols."""
    made: list[Record] = []
    seen: set[tuple[str, str]] = set()
    for name, params, kv, ability in _asked():
        plan = variants.build(name, LAYERS, **params)
        identity = str(plan) == str(Plan.identity(LAYERS))
        if (str(plan), kv) in seen:
            continue
        seen.add((str(plan), kv))
        left = 1.0 if identity else ability
        about: dict[str, object] = {"variant": name, "params": params, "kv": kv, "documents": documents}
        tasks = ("fake_gsm8k",) if kv == "averaged" else tuple(DECODED)
        made += [record(plan, task, left, **about) for task in tasks]  # type: ignore[arg-type]
        if kv == "exact" and name not in ("skip-layer", "swap") and params.get("loops", 1) in (1, 3):
            protocols: tuple[tuple[TuningProtocol, float], ...] = (
                ("retuned", left),
                ("frozen", left - 0.2 * (not identity)),
            )
            made += [
                record(plan, task, ability, protocol=protocol, **about)  # type: ignore[arg-type]
                for protocol, ability in protocols
                for task in TUNED
            ]
    return made


def similarity(model: str, mode: str, **fields: object) -> SimilarityRecord:
    """A map whose cosines fall with the distance of the states."""
    places = np.arange(LAYERS + 1)
    near = np.exp(-np.abs(places[:, None] - places[None]) / (2 + 3 * list(MODES).index(mode)))
    near[0, 1:] = near[1:, 0] = -0.05 if mode == "centred" else 0.05
    base: dict[str, object] = {
        "mode": mode, "plan": str(Plan.identity(LAYERS)), "model": model, "revision": None, "weights": "f" * 12,
        "num_layers": LAYERS, "dtype": "float32", "device": "cpu", "attention": "sdpa", "inputs": "fake_lambada",
        "texts": "e" * 12, "documents": 100, "tokens": 5000, "batch_size": 8,
        "labels": ("embeddings", *map(str, range(LAYERS))), "cosines": tuple(map(tuple, near.tolist())),
        "versions": {}, "date": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    if mode != "flat":
        base["flat_error"] = tuple(map(tuple, (0.01 * (1 - np.eye(len(near)))).tolist()))
    return SimilarityRecord.model_validate(base | fields)


def similarities() -> list[SimilarityRecord]:
    """Four modes of the decoder and one of the encoder."""
    return [*(similarity("fake-llama", mode) for mode in MODES), similarity("fake-bert", "flat")]
