"""Models and plans that are exported."""

from __future__ import annotations

from painters import variants

N, START = 6, 1


NAMES = ("llama", "qwen3", "gemma3", "gpt_neox", "bert")


SEQUENCES = {
    "skip": variants.skip(num_layers=N, start=START),
    "swap": variants.swap(num_layers=N, layer=0),
    "reverse": variants.reverse(num_layers=N, start=START),
    "shuffle": variants.shuffle(num_layers=N, start=START, seed=3),
    "middle-repeat": variants.middle_repeat(num_layers=N, start=START),
    "loop": variants.loop(num_layers=N, start=START, loops=2),
}
