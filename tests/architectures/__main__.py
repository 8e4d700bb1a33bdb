"""`python -m architectures`: examine every model type, print the counts, and fail where anything is wrong.

Each type runs in a process of its own with a time limit, so that a crash costs one row. Rows are appended to a
file as they come; an interrupted survey goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING

import painters.engine  # noqa: F401  loaded once, before the processes part
from architectures.page import TABLE, outcomes, read, write

SECONDS = 180
MEMORY = 8 << 30


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m architectures", description=__doc__)
    parser.add_argument("types", nargs="*", help="model types to examine and print; all of them into --out otherwise")
    parser.add_argument("--out", type=Path, default=Path("build/architectures.jsonl"))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="keep the rows in the repository and write the page")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.types:
        rows = [row for model_type in options.types for row in in_own_process(model_type)]
        print("\n".join(json.dumps(row) for row in rows))
        if options.keep:
            keep([row for row in read()[0] if row["type"] not in options.types] + rows)
    else:
        rows = survey(options.out, options.jobs)
        if options.keep:
            keep(rows)
        report(rows)
    return int(any(row["outcome"] == "WRONG" for row in rows))


def keep(rows: list[dict[str, Any]]) -> None:
    """Write these rows into the repository's table and page."""
    head = {"transformers": transformers.__version__, "types": len(CONFIG_MAPPING.keys())}
    ordered = sorted(rows, key=lambda row: row["type"])
    TABLE.write_text("".join(json.dumps(row) + "\n" for row in (head, *ordered)))
    write()


def survey(out: Path, jobs: int) -> list[dict[str, Any]]:
    """The rows of all model types, sorted; `out` keeps them as they come."""
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    missing = sorted(set(CONFIG_MAPPING) - {row["type"] for row in rows})
    known = len(CONFIG_MAPPING.keys())
    print(f"transformers {transformers.__version__}: {known} model types, {len(missing)} to examine")
    running: list[tuple[Any, Any, str, float]] = []
    with out.open("a") as file:
        while missing or running:
            while missing and len(running) < jobs:
                running.append(start(missing.pop(0)))
            done = [run for run in running if run[1].poll(0.02) or not run[0].is_alive() or time.time() > run[3]]
            for run in done:
                running.remove(run)
                for row in collect(*run):
                    rows.append(row)
                    file.write(json.dumps(row) + "\n")
                file.flush()
    return sorted(rows, key=lambda row: row["type"])


def in_own_process(model_type: str) -> list[dict[str, Any]]:
    process, pipe, _, deadline = start(model_type)
    pipe.poll(max(0, deadline - time.time()))
    return collect(process, pipe, model_type, deadline)


def start(model_type: str) -> tuple[Any, Any, str, float]:
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe(duplex=False)
    process = fork.Process(target=work, args=(model_type, there))
    process.start()
    there.close()
    return process, here, model_type, time.time() + SECONDS


def collect(process: Any, pipe: Any, model_type: str, deadline: float) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = pipe.recv() if pipe.poll(0) else []
    except EOFError:
        rows = []
    if not rows:
        why = f"took more than {SECONDS} s" if process.is_alive() else f"its process ended with {process.exitcode}"
        rows = [{"type": model_type, "outcome": "not built", "reason": why}]
    process.kill()
    process.join()
    return rows


def work(model_type: str, pipe: Any) -> None:
    from architectures.check import examine

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    pipe.send(examine(model_type))


def report(rows: list[dict[str, Any]]) -> None:
    """Print every row that is not exact, grouped by what became of it, and the counts."""
    for outcome in ("not built", "weak", "refused", "raises", "WRONG"):
        print(f"\n{outcome}:")
        for row in rows:
            if row["outcome"] == outcome:
                print(f"  {row['type']} {row.get('stack') or ''}: {row['reason'][:200]}")
    counts = Counter(outcomes(rows).values())
    print(f"\n{counts.total()} model types: {counts.total() - counts['not built']} built,", end=" ")
    print(", ".join(f"{counts[name]} {name}" for name in ("exact", "weak", "refused", "raises", "WRONG", "not built")))
    told = [row["generation"] for row in rows if "generation" in row]
    print(f"{len(told)} stacks generate, {told.count('exact')} with the same tokens with and without a cache")


if __name__ == "__main__":
    sys.exit(main())
