"""How alike the hidden states of a model are: cosines of every two, block influence, angles, norms.

States are captured as the plan runs: the embeddings, then what leaves each step, before the final norm. Nothing here
loads torch before a function is called. The module is callable as its function `similarity` is, because
`painters.similarity` is the name of both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from painters.plan import Plan
from painters.progress import progress_callback
from painters.results.similarity_record import SimilarityError

if TYPE_CHECKING:
    import pandas as pd

    from painters.results.similarity_record import SimilarityRecord
    from painters.similarity.inputs import Text

__all__ = [
    "MODES",
    "SimilarityError",
    "angular_distance",
    "block_influence",
    "measure",
    "norms",
    "similarity",
]

MODES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "token": "cosine per token, mean over the tokens of a document, then over documents",
        "flat": "the paper's: a sequence flattened whole with its padding, mean over a batch, then over batches",
        "first-excluded": "as token, without the first token of each document",
        "centred": "as token, after subtracting each state's mean over all tokens of all documents",
    }
)
"""The modes by name, and what they are."""

Progress = Callable[[int, int], None]


def similarity(
    model: Any,
    inputs: str | Path | Sequence[Text],
    plan: str | Plan | None = None,
    mode: str = "token",
    *,
    tokenizer: Any = None,
    batch_size: int = 8,
    limit: int | None = None,
    max_length: int | None = None,
    path: str | None = None,
    progress: Progress | bool | None = None,
) -> pd.DataFrame:
    """The mean cosine between every two states of `model` under `plan` (by default: as it is), states x states.

    Rows and columns are named `embeddings`, then by the step that each state left; a step that comes again is numbered,
    `7 (2)`. `measure` says what the arguments are, `MODES` how each mode is weighted.

    Raises SimilarityError, PlanError, SurgeryError, or what loading the model or the task raises.
    """
    [record] = measure(
        model,
        inputs,
        plan,
        modes=[mode],
        tokenizer=tokenizer,
        batch_size=batch_size,
        limit=limit,
        max_length=max_length,
        path=path,
        progress=progress,
    )
    return record.frame()


def measure(
    model: Any,
    inputs: str | Path | Sequence[Text],
    plan: str | Plan | None = None,
    *,
    modes: Sequence[str] = tuple(MODES),
    tokenizer: Any = None,
    batch_size: int = 8,
    limit: int | None = None,
    max_length: int | None = None,
    path: str | None = None,
    progress: Progress | bool | None = None,
) -> list[SimilarityRecord]:
    """A record for each of `modes`, all from one pass over the documents, and a second one for "centred".

    `model` is a name for `load_model`, encoders too, or a loaded model with its `tokenizer`. `inputs` is the name of a
    task, bundled or of lm-eval, whose documents are read with their right answers; of a bundled task for encoders; a
    .txt file with a document on each line; or a list of texts, a pair of segments as a tuple. `limit` keeps the first
    documents, `max_length` the first tokens of each. Texts are padded on the right; padding counts in mode "flat" only,
    and every document weighs the same in all other modes. `path` names the list of layers where it is not found.
    `progress` is called with the documents done and their number, both passes counted; True shows a bar instead, False
    nothing, and by default notebooks show one.

    A record also has `angle(n)`, which `angular_distance` describes, and `table()`, a row per state: norm (mean over
    the tokens of a document, then over documents), first_token (the norm there), change (the mean norm of what the step
    added), largest (the largest absolute number in any token, which shows massive activations) and influence, which
    `block_influence` describes; the embeddings have no change and no influence (NaN).
    """
    wanted = [modes] if isinstance(modes, str) else list(dict.fromkeys(modes))
    for mode in wanted:
        if mode not in MODES:
            raise SimilarityError(f"no similarity is called {mode!r}: the modes are {', '.join(MODES)}")
    if not wanted:
        raise SimilarityError(f"no mode given: name one or more of {', '.join(MODES)}")
    for option, number in (("batch_size", batch_size), ("limit", limit), ("max_length", max_length)):
        if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
            raise SimilarityError(f"{option} {number!r}: give a whole number, 1 or more")
    plan = Plan.parse(plan) if isinstance(plan, str) else plan
    from painters.models import by_name_or_loaded, load_model
    from painters.similarity.inputs import read_inputs
    from painters.similarity.measures import Angle, Profile
    from painters.similarity.states import States, cosines

    model, tokenizer = by_name_or_loaded(model, tokenizer, partial(load_model, encoders=True))
    name, texts = read_inputs(inputs, limit)
    with progress_callback(progress) as on_progress:
        states = States.of(
            model,
            tokenizer,
            texts,
            plan,
            batch_size=batch_size,
            max_length=max_length,
            path=path,
            progress=on_progress,
            passes=2 if "centred" in wanted else 1,
        )
        found = cosines(states, wanted, {"angles": Angle(), "profile": Profile()})
    return states.records(name, {mode: found[mode] for mode in wanted}, found["angles"], found["profile"])


def block_influence(
    model: Any,
    inputs: str | Path | Sequence[Text],
    plan: str | Plan | None = None,
    *,
    tokenizer: Any = None,
    batch_size: int = 8,
    limit: int | None = None,
    max_length: int | None = None,
    path: str | None = None,
) -> pd.Series[float]:
    """How much each step turns the stream: 1 - E cos(x, step(x)) per token (ShortGPT, arXiv 2403.03853).

    The mean is over the tokens of a document, then over documents. Indexed by the steps; the least influential are the
    ones that ShortGPT removes. Arguments as in `measure`.
    """
    table = _profile(model, inputs, plan, tokenizer, batch_size, limit, max_length, path).table()
    return table["influence"].iloc[1:].rename("block_influence").rename_axis("step")


def angular_distance(
    model: Any,
    inputs: str | Path | Sequence[Text],
    plan: str | Plan | None = None,
    n: int = 1,
    *,
    tokenizer: Any = None,
    batch_size: int = 8,
    limit: int | None = None,
    max_length: int | None = None,
    path: str | None = None,
) -> pd.Series[float]:
    """The mean angle arccos(cos) / pi between the states before and after `n` steps in a row, at the last token.

    Indexed by the first of the `n` steps; 0 is the same direction, 0.5 a right angle. Removing the block of the
    smallest angle is the rule of Gromov et al., arXiv 2403.17887. Arguments as in `measure`.
    """
    return _profile(model, inputs, plan, tokenizer, batch_size, limit, max_length, path).angle(n)


def norms(
    model: Any,
    inputs: str | Path | Sequence[Text],
    plan: str | Plan | None = None,
    *,
    tokenizer: Any = None,
    batch_size: int = 8,
    limit: int | None = None,
    max_length: int | None = None,
    path: str | None = None,
) -> pd.DataFrame:
    """One row per state: norm, first_token, change and largest, as `measure` says, which has the arguments too."""
    table = _profile(model, inputs, plan, tokenizer, batch_size, limit, max_length, path).table()
    return table.drop(columns="influence")


def _profile(
    model: Any,
    inputs: str | Path | Sequence[Text],
    plan: str | Plan | None,
    tokenizer: Any,
    batch_size: int,
    limit: int | None,
    max_length: int | None,
    path: str | None,
) -> SimilarityRecord:
    [record] = measure(
        model,
        inputs,
        plan,
        modes=["token"],
        tokenizer=tokenizer,
        batch_size=batch_size,
        limit=limit,
        max_length=max_length,
        path=path,
    )
    return record
