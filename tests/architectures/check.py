"""One model type under the engine: what it is exact in, refused with which words, or wrong."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from architectures.building import build, classes, inputs, tokens
from architectures.configs import tiny_config
from architectures.gathered import check_gathered
from architectures.replay import NoChainError, difference, replayed, stream, tensors
from painters import Plan, surgery
from painters.stack import LayerList, LayerStack, SurgeryError

Row = dict[str, Any]
EXACT = "exact"
SOME_PLANS = ("skip", "looped parallel")
"""The plans under which hidden states and attentions are compared: they run fewer layers, and more."""


def plans(num_layers: int, among: range | None = None) -> dict[str, Plan]:
    """A plan of every kind for a stack of two or more layers, identity first; layers not `among` these stay put."""
    among = among or range(num_layers)
    n = len(among)
    first, last = (1, n - 2) if n >= 4 else (0, n - 1)
    before, after = ("", "") if n < 4 else ("0 ", f" {n - 1}")
    window = f"{first}-{last}"
    middle = (first + last) // 2
    kept = " ".join(str(i) for i in range(n) if i != middle)
    shuffled = [*range(first, last + 1)][1::2] + [*range(first, last + 1)][::2]
    texts = {
        "identity": f"0-{n - 1}",
        "skip": kept,
        "skip layer 0": f"1-{n - 1}" if n > 2 else "1",
        "swap": f"1 0 2-{n - 1}" if n > 3 else "1 0" + " 2" * (n == 3),
        "reverse": f"{before}{last}-{first}{after}",
        "shuffle": f"{before}{' '.join(map(str, shuffled))}{after}",
        "middle-repeat": f"{before}({middle})*{last - first + 1}{after}",
        "parallel": f"{before}{{{window}}}{after}",
        "sum": f"{before}{{{window}}}:sum{after}",
        "looped parallel": f"{before}{{{window}}}*3{after}",
        "nested": f"{before}{{({first} {last}) {{{last} ({first} {{{window}}}:sum)}}}}{after}",
    }
    before, after = [" ".join(map(str, part)) for part in (range(among.start), range(among.stop, num_layers))]
    moved = {
        label: re.sub(r"(?<!\*)\d+", lambda m: str(int(m[0]) + among.start), text) for label, text in texts.items()
    }
    return {label: Plan.parse(f"{before} {text} {after}".strip()) for label, text in moved.items()}


def examine(model_type: str) -> list[Row]:
    """A row for each stack of a tiny model of this type that can be operated; one with the reason where none can."""
    row: Row = {"type": model_type}
    try:
        model, given = ready(model_type)
    except Exception as error:
        return [row | {"outcome": "not built", "reason": said(error)}]
    row["class"] = type(model).__name__
    if (unlike := differs_from_itself(model, given)) is not None:
        return [row | {"outcome": "not built", "reason": f"two forwards differ: {unlike}"}]
    whole = row | check(model, None, given)
    if whole["outcome"] != "refused":
        return [whole]
    others = [path for path in inner_paths(model) if path != whole.get("stack")]
    return [whole, *(row | check(model, path, given) | {"part": True} for path in others)]


def ready(model_type: str) -> tuple[PreTrainedModel, dict[str, Any]]:
    """A model of this type and its inputs: of the most telling class whose forward runs."""
    first_error: Exception | None = None
    kinds = classes(tiny_config(model_type))
    if not kinds:
        raise LookupError("no model class of its own: a part of other models")
    for kind in kinds:
        for noise in (0.1, 0.0):
            try:
                model = build(kind, tiny_config(model_type), noise)
            except Exception as error:
                first_error = first_error or error
                break
            for given in inputs(model):
                try:
                    if all(torch.isfinite(value).any() for value in tensors(forward(model, given)).values()):
                        return model, given
                    first_error = first_error or ValueError("nothing finite comes out of its forward")
                except Exception as error:
                    first_error = first_error or error
    assert first_error is not None
    raise first_error


def forward(model: nn.Module, given: dict[str, Any], **options: Any) -> Any:
    torch.manual_seed(2)
    taken = inspect.signature(model.forward).parameters
    accepts = "use_cache" in taken or "kwargs" in taken
    with torch.inference_mode():
        return model(**given, **({"use_cache": False} | options if accepts else {}))


def differs_from_itself(model: nn.Module, given: dict[str, Any]) -> str | None:
    return difference(forward(model, given), forward(model, given))


def inner_paths(model: nn.Module, within: str = "") -> Iterator[str]:
    """The outermost lists of two or more layers of a class, and in place of one that holds stages those within it."""
    prefix = f"{within}." if within else ""
    found = [
        f"{prefix}{path}"
        for path, module in model.get_submodule(within).named_modules()
        if path
        and isinstance(module, nn.ModuleList | nn.Sequential)
        and len(module) > 1
        and len({type(layer) for layer in module}) == 1
        and len(list(module[0].parameters())) > 3
    ]
    for path in found:
        if any(path.startswith(f"{other}.") for other in found):
            continue
        try:
            LayerStack.find(model, path)
        except SurgeryError as error:
            if "holds stages" in str(error):
                yield from inner_paths(model, path)
                continue
        yield path


def check(model: PreTrainedModel, path: str | None, given: dict[str, Any]) -> Row:
    """The outcome for one stack: of the plans, of the plans with the default cache, and of generation."""
    try:
        stack = LayerStack.find(model, path)
    except SurgeryError as error:
        return {**({"stack": path} if path else {}), "outcome": "refused", "reason": without_name(error, model)}
    kinds = list(dict.fromkeys(type(layer).__name__ for layer in stack.layers))
    row: Row = {"stack": stack.path, "layers": stack.num_layers, "layer classes": kinds, "returns": stack.returns}
    if stack.num_layers < 2:
        return row | {"outcome": "refused", "reason": "a single layer"}
    among = of_like_shape(model, stack.layers, given)
    if len(among) < 2:
        seen = check_plans(model, stack, path, given, range(stack.num_layers))
        return row | {"outcome": "WRONG" if seen.startswith("WRONG") else "refused", "reason": seen}
    if len(among) < stack.num_layers:
        row["among"] = f"{among[0]}-{among[-1]}"
        row["others"] = check_plans(model, stack, path, given, range(stack.num_layers))
        if not row["others"].startswith("refused"):
            outcome = "WRONG" if row["others"].startswith("WRONG") else "raises"
            return row | {"outcome": outcome, "reason": row["others"]}
    checks: dict[str, Callable[[], str]] = {"plans": lambda: check_plans(model, stack, path, given, among)}
    try:
        stock = forward(model, given, use_cache=True)
    except Exception as error:
        stock = {}
        row["cached"] = f"none: the intact model fails with a cache: {said(error)}"
    if any(name in stock for name in ("cache", "past_key_values", "cache_params")):
        checks["cached"] = lambda: check_plans(model, stack, path, given, among, use_cache=True)
    if model.can_generate() and model.main_input_name == "input_ids":
        checks["generation"] = lambda: check_generation(model, stack, path)
    results = {name: run() for name, run in checks.items()}
    some_plans = plans(stack.num_layers, among)
    gathered = check_gathered(model, stack, path, given, {label: some_plans[label] for label in SOME_PLANS})
    results |= {option.removeprefix("output_"): seen for option, seen in gathered.items() if seen.startswith("WRONG")}
    row |= results | {option.removeprefix("output_"): seen for option, seen in gathered.items()}
    for outcome in ("WRONG", "raises", "refused", "weak"):
        said_so = [result for result in results.values() if result.startswith(outcome)]
        if said_so:
            return row | {"outcome": outcome.lower() if outcome != "WRONG" else outcome, "reason": said_so[0]}
    return row | {"outcome": EXACT}


def of_like_shape(model: nn.Module, layers: LayerList, given: dict[str, Any]) -> range:
    """The longest run of layers whose stream keeps its shape."""
    keeps = [True] * len(layers)

    def look(index: int, args: Any, output: Any) -> None:
        after = stream(output)
        keeps[index] &= not args or (isinstance(after, Tensor) and after.shape == args[0].shape)

    handles = [
        layer.register_forward_hook(lambda _, args, output, i=i: look(i, args, output))
        for i, layer in enumerate(layers)
    ]
    forward(model, given)
    for handle in handles:
        handle.remove()
    runs = [range(i, j) for i in range(len(keeps)) for j in range(i + 1, len(keeps) + 1) if all(keeps[i:j])]
    return max(runs, key=len, default=range(0))


def check_plans(
    model: PreTrainedModel,
    stack: LayerStack,
    path: str | None,
    given: dict[str, Any],
    among: range,
    use_cache: bool = False,
) -> str:
    """EXACT, or what was seen under the first plan that is not."""
    stock = forward(model, given, use_cache=use_cache)
    moved = 0
    for label, plan in plans(stack.num_layers, among).items():
        try:
            with surgery(model, plan, path=path):
                found = forward(model, given, use_cache=use_cache)
        except SurgeryError as error:
            return f"refused: {label}: {without_name(error, model)}"
        except Exception as error:
            return f"raises: {label}: {said(error)}"
        try:
            torch.manual_seed(2)
            options = {"use_cache": use_cache} if takes_cache(model) else {}
            with torch.inference_mode():
                expected = replayed(model, stack.layers, plan, given | options)
        except NoChainError as error:
            return f"WRONG: {label}: {error}"
        except Exception as error:
            return f"WRONG: {label}: the replay raises {said(error)}"
        if (unlike := difference(found, stock if label == "identity" else expected)) is not None:
            return f"WRONG: {label}: {unlike}"
        if label == "identity" and (unlike := difference(expected, stock)) is not None:
            return f"WRONG: the replay of the identity: {unlike}"
        moved += difference(found, stock) is not None
    # A plan that changes nothing would prove nothing.
    return EXACT if moved >= 6 else f"weak: only {moved} of 10 plans change the output"


def takes_cache(model: nn.Module) -> bool:
    taken = inspect.signature(model.forward).parameters
    return "use_cache" in taken or "kwargs" in taken


def check_generation(model: PreTrainedModel, stack: LayerStack, path: str | None) -> str:
    """EXACT where greedy tokens with and without a cache are the same under plans of all kinds."""
    wanted = ("identity", "skip layer 0", "reverse", "middle-repeat", "looped parallel")
    try:
        with_cache, without = generated(model, True), generated(model, False)
        if not torch.equal(with_cache.sequences, without.sequences) or not alike(with_cache, without):
            return "none: the intact model generates something else with a cache"
    except Exception as error:
        return f"none: the intact model does not generate: {said(error)}"
    chosen = plans(stack.num_layers)
    for label in wanted:
        try:
            with surgery(model, chosen[label], path=path):
                with_cache, without = generated(model, True), generated(model, False)
        except SurgeryError as error:
            return f"refused: {label}: {without_name(error, model)}"
        except Exception as error:
            return f"raises: generation under {label}: {said(error)}"
        if not torch.equal(with_cache.sequences, without.sequences):
            return f"WRONG: generation under {label}: other tokens with a cache"
    return EXACT


def alike(one: Any, two: Any) -> bool:
    """Whether two generations chose from the same logits, up to rounding."""
    pairs = zip(one.logits, two.logits, strict=True)
    return all(torch.allclose(a.nan_to_num(), b.nan_to_num(), rtol=1e-2, atol=1e-2) for a, b in pairs)


def generated(model: PreTrainedModel, use_cache: bool) -> Any:
    """What `generate` returns for prompts of several lengths, padded on the left."""
    ids = tokens(3, 9)
    mask = torch.ones_like(ids)
    mask[1, :2] = mask[2, :4] = 0
    model.generation_config.eos_token_id = None
    if model.generation_config.decoder_start_token_id is None:
        model.generation_config.decoder_start_token_id = 1
    model.generation_config.forced_bos_token_id = model.generation_config.forced_eos_token_id = None
    with torch.inference_mode():
        return model.generate(
            ids.masked_fill(mask == 0, 0),
            attention_mask=mask,
            max_new_tokens=4,
            do_sample=False,
            num_beams=1,
            use_cache=use_cache,
            pad_token_id=0,
            output_logits=True,
            return_dict_in_generate=True,
        )


def without_name(error: Exception, model: nn.Module) -> str:
    """The message of a refusal, with no class of the model in front."""
    return said(error).removeprefix("SurgeryError: ").removeprefix(type(model).__name__).lstrip(": ")


def said(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = re.sub(r"(/[\w.-]+){3,}", "...", " ".join(lines))  # folders of the machine that it ran on
    return f"{type(error).__name__}: {text[:300]}"
