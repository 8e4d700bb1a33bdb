"""A quick check of a network in training: the share of determined words that it gets right, by kind."""

from __future__ import annotations

import random
from collections.abc import Iterator

import torch

from painters.nano.corpus import MIXTURE, document_of
from painters.nano.documents import TIGHT
from painters.nano.network import Network, export
from painters.nano.tokenizer import build_tokenizer


def probe(network: Network, documents: int = 60, seed: int = 12345) -> dict[str, float]:
    """Return for each kind of document the share of tokens with weight 1 that are predicted greedily."""
    model, tokenizer = export(network), build_tokenizer()
    return {kind: _share(kind, model, tokenizer, documents, random.Random(f"{seed}/{kind}")) for kind in MIXTURE}


def _share(kind: str, model, tokenizer, documents: int, draw: random.Random) -> float:  # type: ignore[no-untyped-def]
    right = total = 0
    for _ in range(documents):
        ids, tight = [], []
        for text, weight in document_of(kind, draw):
            piece = tokenizer(text).input_ids
            ids += piece
            tight += [weight == TIGHT] * len(piece)
        with torch.inference_mode():
            guess = model(torch.tensor([ids])).logits[0, :-1].argmax(-1).tolist()
        hits = [g == t for g, t, keep in zip(guess, ids[1:], tight[1:], strict=True) if keep]
        right, total = right + sum(hits), total + len(hits)
    return right / total


def report(shares: dict[str, float]) -> str:
    """Return the shares as one line of text."""

    def parts() -> Iterator[str]:
        for kind, share in shares.items():
            yield f"{kind} {share:.2f}"

    return "  ".join(parts())
