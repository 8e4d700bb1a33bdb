"""Run a model under a plan over documents, and capture its hidden states batch by batch.

State 0 is the embeddings, and each further state is what left a step of the plan. All are taken before the final norm.
A batch's states are handed over and not kept.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from painters.engine import surgery
from painters.errors import SimilarityError
from painters.plan import Plan
from painters.results.provenance import model_fields, timestamp
from painters.results.similarity_record import SimilarityRecord
from painters.similarity.inputs import Text
from painters.similarity.measures import (
    FlatCosine,
    Measure,
    StateBatch,
    StateMean,
    StateProfile,
    TokenCosine,
    error_against_flat,
)
from painters.similarity.options import DocumentProgress
from painters.stack import LayerStack

__all__ = ["ProgressCounter", "States", "TokenizedText", "cosines", "run_measures"]


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """The token ids of a document, and the segment of each token where the model reads segments."""

    ids: Sequence[int]
    segments: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(self.ids)


class ProgressCounter:
    """Counts the documents that are done, and calls `on_progress` with their number and the total."""

    def __init__(self, on_progress: DocumentProgress | None, total: int) -> None:
        self._on_progress, self._done, self._total = on_progress, 0, total

    def add(self, documents: int) -> None:
        """Count documents that are done."""
        self._done += documents
        if self._on_progress is not None:
            self._on_progress(self._done, self._total)


@dataclass(frozen=True, slots=True, eq=False)
class States:
    """The hidden states of a model under a plan, batch by batch.

    Each iteration runs the model over all documents again, in evaluation mode, and leaves its modules in the mode in
    which they were.

    Attributes:
        model: The loaded model.
        plan: What runs.
        documents: The tokenized texts.
        pad: The token id that fills short sequences.
        batch_size: How many documents run at a time.
        path: The name of the module that holds the layers, where painters does not find it.
        counter: Counts the documents that are done.
    """

    model: nn.Module
    plan: Plan
    documents: Sequence[TokenizedText]
    pad: int
    batch_size: int
    path: str | None
    counter: ProgressCounter

    @classmethod
    def of(
        cls,
        model: nn.Module,
        tokenizer: Any,
        texts: Sequence[Text],
        plan: Plan | None,
        *,
        batch_size: int,
        max_length: int | None = None,
        path: str | None = None,
        counter: ProgressCounter | None = None,
    ) -> States:
        """Return the states of `texts`, with everything checked and tokenized and nothing run yet.

        `plan` None is the identity. Raise PlanError, SurgeryError or SimilarityError for what cannot be run.
        """
        stack = LayerStack.find(model, path)
        plan = Plan.identity(stack.num_layers) if plan is None else plan
        plan.check(stack.num_layers, stack.name)
        documents = _tokenized(texts, tokenizer, model, max_length)
        counter = ProgressCounter(None, 0) if counter is None else counter
        return cls(model, plan, documents, _pad(tokenizer), batch_size, path, counter)

    def __iter__(self) -> Iterator[StateBatch]:
        training = [module for module in self.model.modules() if module.training]
        self.model.eval()
        try:
            for start in range(0, len(self.documents), self.batch_size):
                documents = self.documents[start : start + self.batch_size]
                yield self._run(documents)
                self.counter.add(len(documents))
        finally:
            for module in training:
                module.training = True

    @property
    def labels(self) -> tuple[str, ...]:
        """The name of each state: embeddings, then the step that it left; a step that occurs again is numbered."""
        names, counts = ["embeddings"], dict[str, int]()
        for step in self.plan.steps:
            text = str(Plan((step,)))
            counts[text] = counts.get(text, 0) + 1
            names.append(text if counts[text] == 1 else f"{text} ({counts[text]})")
        return tuple(names)

    @property
    def cosines_by_document(self) -> int:
        """How many cosines one mode has in all documents together."""
        return len(self.documents) * len(self.labels) ** 2

    def records(self, inputs: str, modes: Sequence[str], results: Mapping[str, Tensor]) -> list[SimilarityRecord]:
        """Return a record for each mode; `inputs` is the name of the documents, and `results` those of `cosines`."""
        angles, profile = results["angles"], results["profile"]
        fields = self._shared_fields(inputs) | {
            "angles": tuple(map(_finite, angles)),
            "profile": {name: _finite(column) for name, column in zip(StateProfile.columns, profile.T, strict=True)},
        }
        errors = {mode: results[name] for mode in modes if (name := error_name(mode)) in results}
        return [
            SimilarityRecord(
                mode=mode,
                cosines=tuple(map(_finite, results[mode])),
                flat_error=tuple(map(_finite, errors[mode])) if mode in errors else None,
                **fields,
            )
            for mode in modes
        ]

    def _shared_fields(self, inputs: str) -> dict[str, Any]:
        """Return the fields that the records of all modes have in common."""
        return model_fields(self.model, LayerStack.find(self.model, self.path).num_layers) | {
            "stack": self.path,
            "plan": str(self.plan),
            "inputs": inputs,
            "texts": _digest(self.documents),
            "documents": len(self.documents),
            "tokens": sum(map(len, self.documents)),
            "batch_size": self.batch_size,
            "labels": self.labels,
            "date": timestamp(),
        }

    def _run(self, documents: Sequence[TokenizedText]) -> StateBatch:
        """Run the model under the plan on one batch, padded on the right, and return its states."""
        longest = max(map(len, documents))
        ids = _padded([document.ids for document in documents], longest, self.pad)
        mask = _padded([[1] * len(document) for document in documents], longest, 0)
        segments = [document.segments for document in documents if document.segments is not None]
        device = next(self.model.parameters()).device
        arguments = {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
        if segments:
            arguments["token_type_ids"] = _padded(segments, longest, 0).to(device)
        if getattr(self.model.config, "is_encoder_decoder", False):
            arguments |= {"decoder_input_ids": _shifted(ids, self.model.config).to(device)}
            arguments |= {"decoder_attention_mask": arguments["attention_mask"]}
        # Run the base model where there is one: the logits are not needed.
        base: Any = self.model if self.path is not None else getattr(self.model, "base_model", self.model)
        cacheless = {"use_cache": False} if getattr(base.config, "use_cache", False) else {}
        states: list[Tensor] = []
        options: dict[str, Any] = {"path": self.path, "threads": "own"}
        with torch.inference_mode(), surgery(base, self.plan, observe=lambda _, s: states.append(s), **options):
            base(**arguments, **cacheless)
        return StateBatch(states, mask.bool())


def error_name(mode: str) -> str:
    """Return the name under which `cosines` returns the errors of a mode against mode flat."""
    return f"{mode} less flat"


def cosines(
    batches: Iterable[StateBatch],
    modes: Sequence[str],
    extra: Mapping[str, Measure] = MappingProxyType({}),
    *,
    errors: bool = False,
) -> dict[str, Tensor]:
    """Return the cosines [states, states] of each mode, and the result of each measure in `extra`, by name.

    All come from one pass over `batches`; "centred" goes through them a second time. With `errors`, and where "flat" is
    one of the modes, the standard errors of each other mode's difference from it are there too, under `error_name`.
    They take room in memory for the cosines of every document.
    """
    keep = errors and "flat" in modes
    measures: dict[str, TokenCosine] = {}
    if "token" in modes:
        measures["token"] = TokenCosine(keep=keep)
    if "first-excluded" in modes:
        measures["first-excluded"] = TokenCosine(first=False, keep=keep)
    flat = FlatCosine(keep=keep)
    others: dict[str, Measure] = {"flat": flat, "centred": StateMean()}
    chosen: dict[str, Measure] = {mode: measures.get(mode) or others[mode] for mode in modes}
    results = run_measures(batches, chosen | dict(extra))
    if "centred" in results:
        measures["centred"] = TokenCosine(centre=results["centred"], keep=keep)
        results |= run_measures(batches, {"centred": measures["centred"]})
    for mode, measure in measures.items():
        if measure.by_document is not None and flat.by_document is not None:
            results[error_name(mode)] = error_against_flat(measure.by_document, flat.by_document)
    return results


def run_measures(batches: Iterable[StateBatch], measures: Mapping[str, Measure]) -> dict[str, Tensor]:
    """Return the result of each measure over all batches, by name."""
    for batch in batches:
        for measure in measures.values():
            measure.add(batch)
    return {name: measure.result() for name, measure in measures.items()}


def _tokenized(texts: Sequence[Text], tokenizer: Any, model: Any, max_length: int | None) -> list[TokenizedText]:
    """Return the tokens of each text, cut at `max_length` and at the longest that model and tokenizer take.

    A tokenizer with a [CLS] token, as BERT's, adds its special tokens and gives a pair two segments. Any other one adds
    no special tokens, as lm-eval does, and a pair is joined by a space.
    """
    config = model.config.get_text_config()
    limits = [
        getattr(config, "max_position_embeddings", None),
        getattr(tokenizer, "model_max_length", None),
        max_length,
    ]
    longest = min((int(limit) for limit in limits if limit), default=None)
    documents = []
    for number, text in enumerate(texts, 1):
        if getattr(tokenizer, "cls_token", None) is None:
            joined = text if isinstance(text, str) else " ".join(text)
            document = TokenizedText(list(tokenizer.encode(joined, add_special_tokens=False))[:longest])
        else:
            pair = (text,) if isinstance(text, str) else text
            encoded = tokenizer(*pair, truncation=longest is not None, max_length=longest)
            document = TokenizedText(encoded["input_ids"], encoded.get("token_type_ids"))
        if not document.ids:
            raise SimilarityError(f"text {number} of {len(texts)} ({text!r:.30}) has no tokens: leave it out")
        documents.append(document)
    return documents


def _padded(rows: Sequence[Sequence[int]], length: int, fill: int) -> Tensor:
    """Return the rows as a tensor [rows, length], filled up on the right."""
    return torch.tensor([[*row, *[fill] * (length - len(row))] for row in rows])


def _shifted(ids: Tensor, config: Any) -> Tensor:
    """Return what a decoder reads in training to write these tokens: its start token, then all but the last."""
    names = ("decoder_start_token_id", "bos_token_id", "pad_token_id")
    start = next((token for name in names if (token := getattr(config, name, None)) is not None), 0)
    return torch.cat([torch.full_like(ids[:, :1], start), ids[:, :-1]], dim=1)


def _digest(documents: Sequence[TokenizedText]) -> str:
    """Return twelve hexadecimal digits over the tokens and segments of all documents."""
    tokens = [(list(document.ids), document.segments and list(document.segments)) for document in documents]
    return hashlib.sha256(repr(tokens).encode()).hexdigest()[:12]


def _finite(row: Tensor) -> tuple[float | None, ...]:
    """Return the numbers in `row`, with None for those that are not finite."""
    return tuple(value if math.isfinite(value) else None for value in row.tolist())


def _pad(tokenizer: Any) -> int:
    """Return the token id that fills short sequences: the padding token, else the end of text, else 0."""
    for token in (getattr(tokenizer, "pad_token_id", None), getattr(tokenizer, "eos_token_id", None)):
        if token is not None:
            return int(token)
    return 0
