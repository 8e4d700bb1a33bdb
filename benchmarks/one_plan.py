"""Measure one plan at a time: a forward under `painters.surgery` against the alternatives.

These are the plain model, a list of layers edited by hand, and nnsight and TransformerLens where they are installed and
can follow the plan.

    python benchmarks/one_plan.py
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import timing
import torch
from rivals import bridged, edited, hooked, random_llama, sharing_weights, traced
from torch import Tensor

from painters import Plan, surgery
from painters.models import load_model

PLANS = ("0-11", "0-5 7-11", "0-4 6 5 7-11", "0-3 8-4 9-11", "0-3 6*5 9-11", "0-3 {4-8} 9-11", "0-3 {4-8}*3 9-11")
"""Plans of twelve layers: the identity, one skip, a swap, and for a window of five: reversed, the middle layer
repeated, in parallel, and in parallel three times."""
INPUTS = {"8 x 128 tokens": (8, 128, 1), "1 x 16 tokens": (1, 16, 10)}
"""Name -> rows, tokens in a row, and calls per measurement."""
RIVALS = {"nnsight": "nnsight", "transformer_lens": "transformer-lens"}
"""Module -> package."""
PLAIN = "plain forward"
LENS = "TransformerLens"


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure and print; return for every model, input and plan the ratios to the plain forward."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--models", nargs="+", default=["nano-llama", "random-256"], help="of twelve layers")
    parser.add_argument("--inputs", nargs="+", default=list(INPUTS), choices=list(INPUTS))
    parser.add_argument("--plans", nargs="+", default=list(PLANS))
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    report: dict[str, Any] = {"machine": timing.machine("nnsight", "transformer-lens"), "ratios": []}
    for module, package in RIVALS.items():
        if not importlib.util.find_spec(module):
            print(f"{package} is not installed and is left out: pip install {package}")
    for name in options.models:
        model = model_named(name)
        for inputs in options.inputs:
            rows, length, number = INPUTS[inputs]
            ids = torch.randint(3, model.config.vocab_size, (rows, length), generator=torch.Generator().manual_seed(0))
            ratios = {plan: compare(model, Plan.parse(plan), ids, options.rounds, number) for plan in options.plans}
            report["ratios"] += [
                {"model": name, "inputs": inputs, "plan": plan, "side": side, **vars(ratio)}
                for plan, sides in ratios.items()
                for side, ratio in sides.items()
            ]
            columns = list(dict.fromkeys(side for sides in ratios.values() for side in sides))
            cells = [[plan, *(sides.get(side, "") for side in columns)] for plan, sides in ratios.items()]
            title = f"{name}, {inputs}: CPU seconds over those of a {PLAIN}, medians of {options.rounds} rounds"
            timing.show(f"{title} (quartiles of the rounds)", ["plan", *columns], cells)
    timing.write(options.json, report)
    return report


def model_named(name: str) -> Any:
    """Return a bundled model, or for `random-256` a random Llama of twelve layers with that hidden size."""
    if name.startswith("random-"):
        return random_llama(12, int(name.removeprefix("random-")))
    model, _ = load_model(name)
    return model


def compare(model: Any, plan: Plan, ids: Tensor, rounds: int, number: int) -> dict[str, timing.Ratio]:
    """Return each side's ratio to the plain forward; no side has a cache unless its name says so."""
    sides = _sides(model, plan, ids)
    _check(sides, plan)
    timings = timing.in_turn(sides, rounds=rounds, number=number)
    return {name: side.over(timings[PLAIN]) for name, side in timings.items() if name != PLAIN}


def _sides(model: Any, plan: Plan, ids: Tensor) -> dict[str, timing.Alternative]:
    """Return the alternatives to measure, by name."""

    def forward() -> Tensor:
        logits: Tensor = model(input_ids=ids, use_cache=False).logits
        return logits

    def with_cache() -> Tensor:
        logits: Tensor = model(input_ids=ids).logits
        return logits

    def entering() -> Tensor:
        with surgery(model, plan):
            return forward()

    def under(context: Callable[[], Any], call: Callable[[], Tensor]) -> timing.Alternative:
        @contextlib.contextmanager
        def enter() -> Iterator[Callable[[], object]]:
            with context():
                yield call

        return enter

    sides = {
        PLAIN: under(contextlib.nullcontext, forward),
        "painters": under(lambda: surgery(model, plan), forward),
        "entered each time": under(contextlib.nullcontext, entering),
        "with the cache": under(lambda: surgery(model, plan), with_cache),
        "plain with the cache": under(contextlib.nullcontext, with_cache),
        "list edited": under(lambda: edited(model, plan), forward),
    }
    if importlib.util.find_spec("nnsight"):
        from nnsight import NNsight

        sides["nnsight"] = under(contextlib.nullcontext, traced(NNsight(sharing_weights(model)), plan, ids))
    if importlib.util.find_spec("transformer_lens"):
        _, tokenizer = load_model("nano-llama")
        if (call := hooked(bridged(model, tokenizer), plan, ids)) is not None:
            sides[LENS] = under(contextlib.nullcontext, call)
    return sides


def _check(sides: dict[str, timing.Alternative], plan: Plan) -> None:
    """Raise AssertionError where a side computes something else than the list edited by hand."""
    with torch.no_grad():
        with sides["list edited"]() as call:
            expected = call()
        for name, enter in sides.items():
            if not name.startswith("plain"):
                tolerance = 1e-4 if name == LENS else 0  # its attention is made of other operations
                with enter() as call:
                    torch.testing.assert_close(call(), expected, rtol=0, atol=tolerance, msg=f"{name}, {plan}: others")


if __name__ == "__main__":
    main()
