"""The states of a model under a plan: what entered the plan and what left each of its steps, batch after batch.

State 0 is the embeddings; all come before the final norm. A batch's states are given away and forgotten.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from painters.engine import surgery
from painters.plan import Plan
from painters.results.provenance import model_fields, timestamp
from painters.results.similarity_record import SimilarityError, SimilarityRecord
from painters.similarity.functions import Progress
from painters.similarity.inputs import Text
from painters.similarity.measures import Batch, Centre, Flat, Measure, PerToken, Profile
from painters.stack import LayerStack


@dataclass(frozen=True, slots=True)
class Document:
    """Token ids, and to which segment of a pair each belongs where the model is told that."""

    ids: Sequence[int]
    segments: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True, eq=False)
class States:
    """The batches of states of `model` under `plan`; each iteration runs the model over all documents anew."""

    model: nn.Module
    plan: Plan
    documents: Sequence[Document]
    pad: int
    batch_size: int
    path: str | None
    tell: _Tell

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
        progress: Progress | None = None,
        passes: int = 1,
    ) -> States:
        """Checked and tokenised, nothing run yet; `plan` None is the model as it is."""
        stack = LayerStack.find(model, path)
        plan = Plan.identity(stack.num_layers) if plan is None else plan
        plan.check(stack.num_layers, stack.name)
        documents = _encoded(texts, tokenizer, model, max_length)
        return cls(model, plan, documents, _pad(tokenizer), batch_size, path, _Tell(progress, passes * len(texts)))

    def __iter__(self) -> Iterator[Batch]:
        training = [module for module in self.model.modules() if module.training]
        self.model.eval()
        try:
            for start in range(0, len(self.documents), self.batch_size):
                documents = self.documents[start : start + self.batch_size]
                yield self._run(documents)
                self.tell(len(documents))
        finally:
            for module in training:
                module.training = True

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for each state: embeddings, then the step that it left; one that comes again is numbered."""
        names, seen = ["embeddings"], dict[str, int]()
        for step in self.plan.steps:
            text = str(Plan((step,)))
            seen[text] = seen.get(text, 0) + 1
            names.append(text if seen[text] == 1 else f"{text} ({seen[text]})")
        return tuple(names)

    def records(
        self, inputs: str, cosines: Mapping[str, Tensor], angles: Tensor, profile: Tensor
    ) -> list[SimilarityRecord]:
        """The cosines of each mode with what they depend on; `inputs` names the documents."""
        about = self._shared_fields(inputs) | {
            "angles": tuple(map(_finite, angles)),
            "profile": {name: _finite(column) for name, column in zip(Profile.columns, profile.T, strict=True)},
        }
        return [
            SimilarityRecord(mode=mode, cosines=tuple(map(_finite, table)), **about) for mode, table in cosines.items()
        ]

    def _shared_fields(self, inputs: str) -> dict[str, Any]:
        """Return the fields that the records of all modes have in common."""
        return model_fields(self.model, LayerStack.find(self.model, self.path).num_layers) | {
            "plan": str(self.plan),
            "inputs": inputs,
            "texts": _digest(self.documents),
            "documents": len(self.documents),
            "tokens": sum(map(len, self.documents)),
            "batch_size": self.batch_size,
            "labels": self.labels,
            "date": timestamp(),
        }

    def _run(self, documents: Sequence[Document]) -> Batch:
        longest = max(map(len, documents))
        ids = _padded([document.ids for document in documents], longest, self.pad)
        mask = _padded([[1] * len(document) for document in documents], longest, 0)
        segments = [document.segments for document in documents if document.segments is not None]
        place = next(self.model.parameters()).device
        given = {"input_ids": ids.to(place), "attention_mask": mask.to(place)}
        if segments:
            given["token_type_ids"] = _padded(segments, longest, 0).to(place)
        # The base model where it has one: nobody reads the logits.
        base: Any = self.model if self.path is not None else getattr(self.model, "base_model", self.model)
        cacheless = {"use_cache": False} if getattr(base.config, "use_cache", False) else {}
        kept: list[Tensor] = []
        with torch.inference_mode(), surgery(base, self.plan, path=self.path, observe=lambda _, s: kept.append(s)):
            base(**given, **cacheless)
        return Batch(kept, mask.bool())


class _Tell:
    """Counts documents and reports them."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._done, self._total = progress, 0, total

    def __call__(self, documents: int) -> None:
        self._done += documents
        if self._progress is not None:
            self._progress(self._done, self._total)


def cosines(
    batches: Iterable[Batch], modes: Sequence[str], more: Mapping[str, Measure] = MappingProxyType({})
) -> dict[str, Tensor]:
    """Mode -> the cosines of every two states, [states, states], and the results of `more` from the same pass.

    "centred" goes through `batches` a second time.
    """
    kinds: dict[str, Callable[[], Measure]] = {
        "token": PerToken,
        "flat": Flat,
        "first-excluded": _without_first,
        "centred": Centre,
    }
    found = measured(batches, {mode: kinds[mode]() for mode in modes} | dict(more))
    if "centred" in found:
        found |= measured(batches, {"centred": PerToken(centre=found["centred"])})
    return found


def measured(batches: Iterable[Batch], measures: Mapping[str, Measure]) -> dict[str, Tensor]:
    """Name -> the result of each measure over all batches."""
    for batch in batches:
        for measure in measures.values():
            measure.add(batch)
    return {name: measure.result() for name, measure in measures.items()}


def _without_first() -> PerToken:
    return PerToken(first=False)


def _encoded(texts: Sequence[Text], tokenizer: Any, model: Any, max_length: int | None) -> list[Document]:
    """The tokens of each text, cut at `max_length` and at what model and tokenizer take.

    A tokenizer that has a [CLS], as BERT's, puts its special tokens, and a pair into two segments; another one adds
    nothing, as lm-eval does it, and a pair is joined by a space.
    """
    config = model.config.get_text_config()
    takes = [getattr(config, "max_position_embeddings", None), getattr(tokenizer, "model_max_length", None), max_length]
    most = min((int(length) for length in takes if length), default=None)
    found = []
    for number, text in enumerate(texts, 1):
        if getattr(tokenizer, "cls_token", None) is None:
            joined = text if isinstance(text, str) else " ".join(text)
            document = Document(list(tokenizer.encode(joined, add_special_tokens=False))[:most])
        else:
            pair = (text,) if isinstance(text, str) else text
            encoded = tokenizer(*pair, truncation=most is not None, max_length=most)
            document = Document(encoded["input_ids"], encoded.get("token_type_ids"))
        if not document.ids:
            raise SimilarityError(f"text {number} of {len(texts)} ({text!r:.30}) has no tokens: leave it out")
        found.append(document)
    return found


def _padded(rows: Sequence[Sequence[int]], length: int, fill: int) -> Tensor:
    """[rows, length], filled on the right."""
    return torch.tensor([[*row, *[fill] * (length - len(row))] for row in rows])


def _digest(documents: Sequence[Document]) -> str:
    """Twelve hexadecimal digits over every token."""
    tokens = [(list(document.ids), document.segments and list(document.segments)) for document in documents]
    return hashlib.sha256(repr(tokens).encode()).hexdigest()[:12]


def _finite(row: Tensor) -> tuple[float | None, ...]:
    """The numbers in `row`, None where one is not finite."""
    return tuple(value if math.isfinite(value) else None for value in row.tolist())


def _pad(tokenizer: Any) -> int:
    """The id that fills short sequences."""
    for token in (getattr(tokenizer, "pad_token_id", None), getattr(tokenizer, "eos_token_id", None)):
        if token is not None:
            return int(token)
    return 0
