"""Random plans on random architectures, padded, cached and in any number type, against models that know no surgery.

Three oracles: the plain loop of tests/support/reference.py without a cache, bit for bit; a stock model whose list of
layers is the plan (tests/support/unrolled.py), bit for bit with every kind of cache; and, where no stock model can
stand for a plan (one half of a layer, or layers of several kinds side by side), the plain loop without a cache, up to
rounding.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from random import Random
from typing import Any

import torch
from support import reference
from support.cache_cases import rounded_cache
from support.models import ARCHITECTURES, CACHE, PAD, VOCABULARY, make_model
from support.unrolled import unrolled
from torch import Tensor
from transformers import DynamicCache, StaticCache

from fuzz.running import Part, Watch, Wrong
from painters import Plan, surgery
from painters.engine import SurgeryError
from painters.plan import MERGES, Layer, Parallel, Step

DTYPES = ("float32", "float32", "bfloat16", "float16", "float64")
PADDINGS = ("none", "left", "right", "both")
CACHES = ("none", "default", "dynamic", "made without a config", "static", "quantised")
MAX_RUNS = 16
PATHS = {"gpt2": "transformer.h", "gpt_neox": "gpt_neox.layers", "opt": "model.decoder.layers"}
"""Where a decoder's layers lie, model.layers for those that are not named."""
CLOSE = {"float64": 1e-5, "float32": 1e-3, "bfloat16": 0.2, "float16": 0.05}
"""How far a cached answer may be from an uncached one where rounding differs, of the largest logit.

Norms and softmax are in float32 in many models, whatever the weights are in: an intact Gemma2 in float64
is off by 3e-7.
"""


@dataclass(frozen=True)
class Case:
    architecture: str
    layers: int
    plan: str
    dtype: str
    padding: str
    cache: str
    attention: str | None
    seed: int


def a_case(random: Random) -> Case:
    architecture = random.choice(list(ARCHITECTURES))
    layers = random.randint(2, 7)
    halves = random.random() < 0.2
    return Case(
        architecture=architecture,
        layers=layers,
        plan=str(Plan(tuple(steps(random, layers, random.randint(1, MAX_RUNS), halves)))),
        dtype=random.choice(DTYPES),
        padding=random.choice(PADDINGS),
        cache=random.choice(CACHES) if ARCHITECTURES[architecture].generates else "none",
        attention=random.choice((None, None, "eager")),
        seed=random.randrange(10**6),
    )


def steps(random: Random, layers: int, left: int, halves: bool, nesting: int = 0) -> Iterator[Step]:
    """Steps with up to `left` runs of layers: singles, ranges, repeats and groups in groups."""
    while left > 0:
        unit, runs = a_unit(random, layers, left, halves, nesting)
        times = random.choice((1, 1, 1, 2, 3)) if runs * 3 <= left else 1
        yield from unit * times
        left -= runs * times
        if random.random() < 0.15:
            return


def a_unit(random: Random, layers: int, left: int, halves: bool, nesting: int) -> tuple[tuple[Step, ...], int]:
    if random.random() < 0.3 and nesting < 3 and left > 1:
        width = random.randint(2, min(4, left))
        branches = [tuple(steps(random, layers, max(1, left // width), halves, nesting + 1)) for _ in range(width)]
        group = Parallel(tuple(branches), random.choice(MERGES))
        return (group,), group.size.layer_runs
    half = random.choice((None, "attn", "mlp")) if halves else None
    first = random.randrange(layers)
    last = random.randrange(layers) if random.random() < 0.5 else first
    indices = list(range(first, last + 1) if first <= last else range(first, last - 1, -1))[:left]
    return tuple(Layer(index, half) for index in indices), len(indices)


@lru_cache(maxsize=48)
def model_of(architecture: str, layers: int, dtype: str, attention: str | None) -> Any:
    return make_model(architecture, layers, attention=attention).to(getattr(torch, dtype))


def batch(case: Case) -> tuple[Tensor, Tensor | None]:
    """Tokens [rows, length] and their mask, None where nothing is padded."""
    random = Random(case.seed)
    rows, length = random.randint(1, 4), random.randint(6, 14)
    generator = torch.Generator().manual_seed(case.seed)
    ids = torch.randint(2, VOCABULARY, (rows, length), generator=generator)
    if case.padding == "none":
        return ids, None
    mask = torch.ones_like(ids)
    for row in range(rows):
        if case.padding in ("left", "both"):
            mask[row, : random.randint(0, 3)] = 0
        if case.padding in ("right", "both"):
            mask[row, length - random.randint(0, 2) :] = 0
    return ids.masked_fill(mask == 0, PAD), mask


def positions_of(ids: Tensor, mask: Tensor | None) -> Tensor:
    seen = torch.ones_like(ids) if mask is None else mask
    return (seen.cumsum(-1) - 1).clamp(min=0)


def cache_of(kind: str, model: Any, length: int) -> Any:
    if kind == "static":
        return StaticCache(model.config, max_cache_len=length)
    if kind == "quantised":
        return rounded_cache(model)
    return DynamicCache() if kind == "made without a config" else DynamicCache(config=model.config)


def at_once(model: Any, case: Case) -> Tensor:
    """The logits [batch, seq, vocabulary] of one forward with the cache that the model makes itself."""
    ids, mask, _ = continued(case)
    given: dict[str, Any] = {} if mask is None else {"attention_mask": mask}
    logits: Tensor = model(ids, position_ids=positions_of(ids, mask), **given).logits
    return logits


def in_pieces(model: Any, case: Case) -> Tensor:
    """The logits [batch, more, vocabulary] of `more` tokens that follow a prompt, a piece at a time with a cache."""
    ids, mask, cut = continued(case)
    positions = positions_of(ids, mask)
    cache, found = cache_of(case.cache, model, ids.shape[1]), []
    random = Random(case.seed)
    begin, end = 0, cut
    while begin < ids.shape[1]:
        given: dict[str, Any] = {"position_ids": positions[:, begin:end], CACHE: cache, "use_cache": True}
        if mask is not None:
            given["attention_mask"] = mask[:, :end]
        found.append(model(ids[:, begin:end], **given).logits)
        begin, end = end, min(ids.shape[1], end + random.choice((1, 1, 1, 2, 3)))
    return torch.cat(found[1:], dim=1)


def continued(case: Case) -> tuple[Tensor, Tensor | None, int]:
    """The batch with four more tokens in every row, and how long the prompts are."""
    ids, mask = batch(case)
    generator = torch.Generator().manual_seed(case.seed + 1)
    more = torch.randint(2, VOCABULARY, (len(ids), 4), generator=generator)
    whole = torch.cat([ids, more], dim=1)
    return whole, None if mask is None else torch.cat([mask, torch.ones_like(more)], dim=1), ids.shape[1]


def check(case: Case, watch: Watch) -> str:
    """`equal`, `equal up to rounding`, or `refused: ...`."""
    plan = Plan.parse(case.plan)
    model = model_of(case.architecture, case.layers, case.dtype, case.attention)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if case.cache == "none":
            return uncached(case, plan, model)
        stock = stock_of(case, plan, model)
        if case.cache == "quantised" and (stock is None or "sliding_window" in vars(model.config)):
            # What rounds has no oracle but a stock model; transformers rounds nothing in layers that slide.
            case = replace(case, cache="dynamic")
        run = at_once if case.cache == "default" else in_pieces
        found = under(plan, model, lambda: run(model, case))
        if isinstance(found, str):
            return found
        if stock is not None:
            return compared(found, run(stock, case))
        ids, mask, _ = continued(case)
        expected = reference.logits(case.architecture, model, plan, ids, mask, positions_of(ids, mask))
        return near(found, expected[:, -found.shape[1] :], mask, CLOSE[case.dtype])


def uncached(case: Case, plan: Plan, model: Any) -> str:
    """One forward without a cache."""
    ids, mask = batch(case)
    given: dict[str, Any] = {} if mask is None else {"attention_mask": mask}
    if ARCHITECTURES[case.architecture].generates:
        given["use_cache"] = False
    found = under(plan, model, lambda: model(ids, **given).logits)
    if isinstance(found, str):
        return found
    return compared(found, reference.logits(case.architecture, model, plan, ids, mask))


def under(plan: Plan, model: Any, run: Callable[[], Tensor]) -> Tensor | str:
    """What `run` returns under the plan, or why that was refused."""
    before = {name: id(module) for name, module in model.named_modules()}
    try:
        with surgery(model, plan):
            return run()
    except SurgeryError as error:
        return f"refused ({str(error).partition(':')[0][:60]})"
    finally:
        if {name: id(module) for name, module in model.named_modules()} != before:
            raise Wrong("left the model other than it was")


def stock_of(case: Case, plan: Plan, model: Any) -> Any:
    """A stock model that is the plan; None where there can be none."""
    if plan.has_halves:
        return None
    types = getattr(model.config, "layer_types", None)
    kinds = []
    for step in plan.steps:
        inside = {None if types is None else types[layer.index] for layer in Plan((step,)).walk()}
        if len(inside) > 1:
            return None
        kinds += list(inside)
    stock = unrolled(model, PATHS.get(case.architecture, "model.layers"), plan)
    if types is not None:
        if not plan.is_sequence:
            return None  # a cache has a slot for each layer and one entry of layer_types for each slot
        stock.config.layer_types = kinds
    return stock


def compared(found: Tensor, expected: Tensor) -> str:
    """`equal`; Wrong where a bit differs."""
    if torch.equal(found, expected):
        return "equal"
    if torch.equal(found.nan_to_num(7, 8, 9), expected.nan_to_num(7, 8, 9)):
        return "equal (not finite)"
    raise Wrong(f"is off by {(found - expected).abs().max():.2e}, and was to be equal to the last bit")


def near(found: Tensor, expected: Tensor, mask: Tensor | None, close: float) -> str:
    """`equal` or `equal up to rounding`, where there is no padding; Wrong where it is neither."""
    if torch.equal(found, expected):
        return "equal"
    if mask is not None:
        seen = mask[:, -found.shape[1] :].bool()
        found, expected = found[seen], expected[seen]
    if not expected.isfinite().all():
        return "not finite"
    off = ((found - expected).abs().max() / expected.abs().max()).item()
    if not off <= close:
        raise Wrong(f"is off by {off:.2e} of the largest logit, where {close:g} is rounding")
    return "equal up to rounding"


def shrink(case: Case, fails: Callable[[Case], bool]) -> Case:
    """A simpler case that is wrong too: fewer steps, then plainer settings."""
    smaller = True
    while smaller:
        smaller = False
        for other in simpler(case):
            if fails(other):
                case, smaller = other, True
                break
    return case


def simpler(case: Case) -> Iterator[Case]:
    for steps in fewer(Plan.parse(case.plan).steps):
        yield replace(case, plan=str(Plan(steps)))
    plain = {"dtype": "float32", "padding": "none", "attention": "eager", "architecture": "llama"}
    for name, value in plain.items():
        if getattr(case, name) != value and not (name == "architecture" and case.cache == "none"):
            yield replace(case, **{name: value})


def fewer(steps: tuple[Step, ...]) -> Iterator[tuple[Step, ...]]:
    """The steps with one left out, a group opened, or the same within a branch."""
    for place, step in enumerate(steps):
        before, after = steps[:place], steps[place + 1 :]
        if before or after:
            yield (*before, *after)
        if isinstance(step, Parallel):
            yield from ((*before, *branch, *after) for branch in step.branches)
            for number, branch in enumerate(step.branches):
                others = step.branches[:number], step.branches[number + 1 :]
                if len(step.branches) > 2:
                    yield (*before, Parallel((*others[0], *others[1]), step.merge), *after)
                for smaller in fewer(branch):
                    yield (*before, Parallel((*others[0], smaller, *others[1]), step.merge), *after)


SURGERIES = Part("surgeries", "plans on models", 2_000, a_case, check, shrink=shrink, seconds=None)
