"""Benchmarks for a GPU, on a model of Llama2-7B's shape with random bfloat16 weights.

Two things are measured: sweeps of many plans; and, when decoding, a parallel group of layers as grouped matrix products
against one call per layer.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --tiny     # the same code on the CPU in seconds, for a random model of a few layers

On a GPU, seconds are those of the clock once all work is finished; on the CPU they are CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timing
import torch
from rivals import random_llama
from sweeps import SWEEPS, BatchSizes, Part, PreparedSweep, show
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from painters import tasks
from painters.models import load_model

LLAMA2_7B = {
    "num_layers": 32,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_attention_heads": 32,
    "vocab_size": 32000,
}
TINY = {
    "num_layers": 4,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "vocab_size": 1664,
}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure and print; return the turns of each sweep, and the ratio for every group and batch size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a few small layers on the CPU")
    parser.add_argument("--limit", type=int, default=200, help="passages")
    parser.add_argument("--turns", type=int, default=3, help="measurements of each sweep")
    parser.add_argument("--sample", type=int, default=4, help="plans that lm-eval scores in a turn")
    parser.add_argument(
        "--batch-sizes", type=int, nargs="+", default=[16, 32, 64], help="each side takes the fastest of them"
    )
    parser.add_argument("--members", type=int, nargs="+", default=[2, 4, 8], help="layers in a parallel group")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16], help="batch sizes of decoding")
    parser.add_argument("--past", type=int, default=128, help="tokens that were decoded before")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    options = parser.parse_args(arguments)
    if not options.tiny and not torch.cuda.is_available():
        parser.exit(2, "gpu.py: torch finds no CUDA device here; `--tiny` runs the same code on the CPU\n")
    torch.set_num_threads(1)
    device, dtype = ("cpu", torch.float32) if options.tiny else ("cuda", torch.bfloat16)
    model = random_llama(**(TINY if options.tiny else LLAMA2_7B), device=device, dtype=dtype)
    measured: dict[str, Any] = {"machine": timing.machine(), "sweeps": [], "groups": []}
    if not options.tiny:
        measured["machine"]["device"] = torch.cuda.get_device_name()
    with tempfile.TemporaryDirectory() as folder:
        task = str(lambada_like(Path(folder)))
        _, tokenizer = load_model("nano-llama", device="cpu")
        sizes = BatchSizes.best(model, tokenizer, [task], options.batch_sizes, options.limit)
        for name in ("fig2", "fig10"):
            plans = tuple(dict.fromkeys(SWEEPS[name](model.config.num_hidden_layers)))
            sweep = PreparedSweep(model, tokenizer, [Part(plans, (task,))], sizes, options.limit, exact=False)
            measured["sweeps"].append(sweep.measured(name, "passages", options.turns, options.sample))
            show(measured["sweeps"][-1])
            timing.write(options.json, measured)
    for members in options.members:
        if members > model.config.num_hidden_layers:
            continue
        for batch in options.batches:
            ratio = grouped_over_separate(model, members, batch, options.past, options.rounds)
            measured["groups"].append({"members": members, "batch": batch, **vars(ratio), "text": str(ratio)})
    timing.show(
        "One token through a parallel group: seconds as grouped products over those as one call per layer",
        ["layers", "rows", "ratio (quartiles of the rounds)"],
        [[group["members"], group["batch"], group["text"]] for group in measured["groups"]],
    )
    timing.write(options.json, measured)
    return measured


def lambada_like(folder: Path) -> Path:
    """Write a task like nano_lambada with passages as long as LAMBADA's into `folder`; return its path.

    A passage is made of two of the bundled ones.
    """
    bundled = tasks.bundled()["nano_lambada"]
    lines = (bundled.parent / "test.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    pairs = zip(texts[::2], texts[1::2], strict=False)
    path = folder / "passages.yaml"
    (folder / "test.jsonl").write_text(
        "".join(json.dumps({"text": f"{first}. {second}"}) + "\n" for first, second in pairs), encoding="utf-8"
    )
    path.write_text(
        bundled.read_text(encoding="utf-8").replace("task: nano_lambada", "task: passages"), encoding="utf-8"
    )
    return path


def grouped_over_separate(model: Any, members: int, batch: int, past: int, rounds: int) -> timing.Ratio:
    """Return the seconds of grouped products over those of one call per layer.

    Both decode one token in each of `batch` rows, after `past` tokens. Raise AssertionError where their outputs differ
    by more than rounding.
    """
    layers = list(model.model.layers)[:members]
    config, weight = model.config, layers[0].mlp.up_proj.weight
    torch.manual_seed(0)
    shape = (members, batch, config.num_key_value_heads, past, config.hidden_size // config.num_attention_heads)
    keys, values = (torch.randn(shape, dtype=weight.dtype, device=weight.device) for _ in range(2))
    hidden = torch.randn(batch, 1, config.hidden_size, dtype=weight.dtype, device=weight.device)
    rotary = model.model.rotary_emb(hidden, torch.full((1, 1), past, device=weight.device))
    grouped = GroupedLayers(layers)

    def by_layer() -> Tensor:
        cache = FixedCache(keys, values)
        outputs = [layer(hidden, None, None, cache, position_embeddings=rotary) for layer in layers]
        return torch.stack(outputs).mean(0)

    def at_once() -> Tensor:
        return grouped(hidden, rotary, keys, values)

    with torch.no_grad():
        tolerance = 1e-4 if weight.dtype == torch.float32 else 5e-2
        torch.testing.assert_close(at_once(), by_layer(), rtol=tolerance, atol=tolerance)
    alternatives = {"grouped": timing.ready(at_once), "separate": timing.ready(by_layer)}
    timings = timing.in_turn(alternatives, rounds=rounds, number=10, clock=timing.clock(model.device))
    return timings["grouped"].over(timings["separate"])


class FixedCache:
    """A cache that holds keys and values of earlier tokens and stores none of the new ones."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self._keys, self._values = keys, values

    def update(self, keys: Tensor, values: Tensor, layer: int, **_: Any) -> tuple[Tensor, Tensor]:
        """Return the earlier and the new ones together, `[batch, heads, seq, head size]`."""
        return torch.cat([self._keys[layer], keys], -2), torch.cat([self._values[layer], values], -2)


class GroupedLayers:
    """Llama layers that run in parallel on one token per row, with four stacked matrix products in all."""

    def __init__(self, layers: Sequence[Any]) -> None:
        attentions, mlps = [layer.self_attn for layer in layers], [layer.mlp for layer in layers]
        self._qkv = _stacked([[a.q_proj, a.k_proj, a.v_proj] for a in attentions])
        self._out = _stacked([[a.o_proj] for a in attentions])
        self._gate_up = _stacked([[mlp.gate_proj, mlp.up_proj] for mlp in mlps])
        self._down = _stacked([[mlp.down_proj] for mlp in mlps])
        self._before_attention = torch.stack([layer.input_layernorm.weight for layer in layers])[:, None]
        self._before_mlp = torch.stack([layer.post_attention_layernorm.weight for layer in layers])[:, None]
        self._epsilon = layers[0].input_layernorm.variance_epsilon
        self._config, self._activation = attentions[0].config, mlps[0].act_fn

    def __call__(self, hidden: Tensor, rotary: tuple[Tensor, Tensor], keys: Tensor, values: Tensor) -> Tensor:
        """Return the mean of the layers' outputs on `hidden` `[batch, 1, hidden]`.

        `keys` and `values` are those of earlier tokens, `[layers, batch, heads, seq, head size]`.
        """
        members, batch, heads, past, size = keys.shape
        queries = self._config.num_attention_heads
        stream = hidden[:, 0].expand(members, batch, -1)
        qkv = torch.bmm(self._norm(stream, self._before_attention), self._qkv)
        parts = qkv.view(members * batch, 1, queries + 2 * heads, size).transpose(1, 2)
        query, key, value = parts.split([queries, heads, heads], dim=1)
        query, key = apply_rotary_pos_emb(query, key, *rotary)
        attended = functional.scaled_dot_product_attention(
            query,
            torch.cat([keys.view(members * batch, heads, past, size), key], -2),
            torch.cat([values.view(members * batch, heads, past, size), value], -2),
            enable_gqa=queries != heads,
        )
        stream = stream + torch.bmm(attended.reshape(members, batch, queries * size), self._out)
        gate, up = torch.bmm(self._norm(stream, self._before_mlp), self._gate_up).chunk(2, -1)
        stream = stream + torch.bmm(self._activation(gate) * up, self._down)
        return stream.mean(0)[:, None]

    def _norm(self, stream: Tensor, weight: Tensor) -> Tensor:
        wide = stream.float()
        scaled = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self._epsilon)
        return weight * scaled.to(stream.dtype)


def _stacked(projections: Sequence[Sequence[nn.Linear]]) -> Tensor:
    """Return weights `[layers, in, out]`: for each layer its projections of one input, concatenated."""
    return torch.stack([torch.cat([p.weight for p in layer], 0).T.contiguous() for layer in projections]).detach()


if __name__ == "__main__":
    main()
