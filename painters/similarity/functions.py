"""The functions that compare hidden states. None of them loads torch before it is called.

States are captured while the plan runs: the embeddings, then what leaves each step, all before the final norm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from painters.errors import SimilarityError
from painters.plan import PlanLike, as_plan
from painters.progress import progress_callback
from painters.similarity.options import DocumentProgress, MeasureOptions

if TYPE_CHECKING:
    import pandas as pd

    from painters.results.similarity_record import SimilarityRecord
    from painters.similarity.inputs import Text

__all__ = [
    "MODES",
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
"""The modes by name, and how each weights tokens and documents."""


MOST_KEPT: Final = 10_000_000
"""The most cosines of a mode, over all documents, for which differences from mode flat have standard errors."""


def similarity(  # noqa: PLR0913 - one keyword for each option of a measurement
    model: Any,
    inputs: str | Path | Sequence[Text],
    plan: PlanLike | None = None,
    mode: str = "token",
    *,
    tokenizer: Any = None,
    batch_size: int = 8,
    limit: int | float | None = None,
    sample: int | None = None,
    sample_seed: int | None = None,
    max_length: int | None = None,
    path: str | None = None,
    progress: DocumentProgress | bool | None = None,
) -> pd.DataFrame:
    """Return the mean cosine between every two hidden states of a model under a plan.

    Args:
        model: A name for `painters.models.load_model`, encoders too, or a loaded model.
        inputs: The name of a task, a .txt file, or a list of texts, as in `measure`.
        plan: The plan that runs; by default the model as it is.
        mode: How tokens and documents are weighted, a key of `MODES`.
        tokenizer: The tokenizer of a loaded model.
        batch_size: How many documents run at a time. It changes the numbers of mode "flat" only.
        limit: Use only the first `limit` documents, or a share of them, such as 0.1.
        sample: Use this many documents, drawn at random, instead.
        sample_seed: The seed of the draw; None for 0.
        max_length: Use only the first `max_length` tokens of each document.
        path: The stack of layers, where there are several or painters finds none: "encoder", "decoder" or the name of
            the module. An encoder-decoder's decoder reads the same text as its encoder, shifted by the start token.
        progress: Called with the documents done and their number; True shows a bar, False nothing. By default
            notebooks show a bar.

    Returns:
        A DataFrame [states, states]. Rows and columns are named `embeddings`, then by the step that each state left; a
        step that occurs again is numbered, as in `7 (2)`. `attrs` holds all settings.

    Raises:
        SimilarityError: An unknown mode, an option below 1, or inputs that hold no text.
        PlanError: The plan cannot be parsed, or does not fit the model.
        SurgeryError: The model cannot follow the plan.
        ModelError: The model cannot be loaded, or a loaded model comes without its tokenizer.
        TaskError: The task cannot be loaded.

    Examples:
        >>> import painters
        >>> table = painters.similarity("nano-llama", ["The cat sat.", "A dog ran."], "0-2")
        >>> list(table.columns), table.shape
        (['embeddings', '0', '1', '2'], (4, 4))
        >>> table.loc["1", "2"] > table.loc["embeddings", "2"]
        np.True_
    """
    options = MeasureOptions(tokenizer, batch_size, limit, max_length, path, progress, sample, sample_seed)
    [record] = _measure(model, inputs, plan, [mode], options)
    return record.frame()


def measure(  # noqa: PLR0913 - one keyword for each option of a measurement
    model: Any,
    inputs: str | Path | Sequence[Text],
    plan: PlanLike | None = None,
    *,
    modes: Sequence[str] = tuple(MODES),
    tokenizer: Any = None,
    batch_size: int = 8,
    limit: int | float | None = None,
    sample: int | None = None,
    sample_seed: int | None = None,
    max_length: int | None = None,
    path: str | None = None,
    progress: DocumentProgress | bool | None = None,
) -> list[SimilarityRecord]:
    """Measure the hidden states of a model under a plan, in several modes at once.

    All modes share one pass over the documents; "centred" needs a second one. Texts are padded on the right. Padding
    counts in mode "flat" only, and in all other modes every document weighs the same.

    A record has the cosines as `frame()`, the angles over `n` steps as `angle(n)` (see `angular_distance`), and one row
    per state as `table()`, with the columns:

    - `norm`: the norm of the state, mean over the tokens of a document, then over documents.
    - `first_token`: the norm at the first token, mean over documents.
    - `change`: the norm of what the step added, averaged like `norm`.
    - `largest`: the largest absolute number at any token, which shows massive activations.
    - `influence`: see `block_influence`.

    The embeddings have no `change` and no `influence` (NaN).

    Where "flat" is one of several modes, `flat_error` of each other record holds the standard errors of its cosines
    less those of "flat", paired by document.

    Args:
        model: A name for `painters.models.load_model`, encoders too, or a loaded model.
        inputs: What the model reads: the name of a task of painters or lm-eval, whose documents are read with their
            right answers; the name of a bundled task for encoders; a .txt file with a document on each line; or a list
            of texts, in which a tuple of two texts is a pair of segments.
        plan: The plan that runs; by default the model as it is.
        modes: The modes of the records, keys of `MODES`.
        tokenizer: The tokenizer of a loaded model.
        batch_size: How many documents run at a time. It changes the numbers of mode "flat" only.
        limit: Use only the first `limit` documents, or a share of them, such as 0.1.
        sample: Use this many documents, drawn at random, instead.
        sample_seed: The seed of the draw; None for 0.
        max_length: Use only the first `max_length` tokens of each document.
        path: The stack of layers, where there are several or painters finds none: "encoder", "decoder" or the name of
            the module. An encoder-decoder's decoder reads the same text as its encoder, shifted by the start token.
        progress: Called with the documents done and their number, over both passes; True shows a bar, False nothing.
            By default notebooks show a bar.

    Returns:
        One record for each mode, in the order of `modes`, duplicates left out.

    Raises:
        SimilarityError: An unknown mode, an option below 1, or inputs that hold no text.
        PlanError: The plan cannot be parsed, or does not fit the model.
        SurgeryError: The model cannot follow the plan.
        ModelError: The model cannot be loaded, or a loaded model comes without its tokenizer.
        TaskError: The task cannot be loaded.

    Examples:
        >>> token, flat = measure("nano-llama", "nano_arc", "0-2", modes=["token", "flat"], limit=2)
        >>> token.mode, flat.mode, token.documents, token.labels
        ('token', 'flat', 2, ('embeddings', '0', '1', '2'))
        >>> list(token.table().columns)
        ['norm', 'first_token', 'change', 'largest', 'influence']
    """
    options = MeasureOptions(tokenizer, batch_size, limit, max_length, path, progress, sample, sample_seed)
    return _measure(model, inputs, plan, modes, options)


def block_influence(  # noqa: PLR0913 - one keyword for each option of a measurement
    model: Any,
    inputs: str | Path | Sequence[Text],
    plan: PlanLike | None = None,
    *,
    tokenizer: Any = None,
    batch_size: int = 8,
    limit: int | float | None = None,
    sample: int | None = None,
    sample_seed: int | None = None,
    max_length: int | None = None,
    path: str | None = None,
) -> pd.Series[float]:
    """Return how much each step turns the residual stream: 1 - E cos(x, step(x)) per token.

    This is block influence of ShortGPT (arXiv 2403.03853), which removes the layers with the least. The mean is over
    the tokens of a document, then over documents.

    Args:
        model: A name for `painters.models.load_model`, encoders too, or a loaded model.
        inputs: The name of a task, a .txt file, or a list of texts, as in `measure`.
        plan: The plan that runs; by default the model as it is.
        tokenizer: The tokenizer of a loaded model.
        batch_size: How many documents run at a time.
        limit: Use only the first `limit` documents, or a share of them, such as 0.1.
        sample: Use this many documents, drawn at random, instead.
        sample_seed: The seed of the draw; None for 0.
        max_length: Use only the first `max_length` tokens of each document.
        path: The stack of layers, where there are several or painters finds none: "encoder", "decoder" or the name of
            the module. An encoder-decoder's decoder reads the same text as its encoder, shifted by the start token.

    Returns:
        One number per step, indexed by the steps.

    Raises:
        SimilarityError: An option below 1, or inputs that hold no text; and what else `measure` raises.

    Examples:
        >>> influence = block_influence("nano-llama", ["The cat sat.", "A dog ran."])
        >>> influence.idxmax(), len(influence)
        ('0', 12)
    """
    options = MeasureOptions(tokenizer, batch_size, limit, max_length, path, None, sample, sample_seed)
    table = _measure_token(model, inputs, plan, options).table()
    return table["influence"].iloc[1:].rename("block_influence").rename_axis("step")


def angular_distance(  # noqa: PLR0913 - one keyword for each option of a measurement
    model: Any,
    inputs: str | Path | Sequence[Text],
    plan: PlanLike | None = None,
    n: int = 1,
    *,
    tokenizer: Any = None,
    batch_size: int = 8,
    limit: int | float | None = None,
    sample: int | None = None,
    sample_seed: int | None = None,
    max_length: int | None = None,
    path: str | None = None,
) -> pd.Series[float]:
    """Return the mean angle arccos(cos) / pi between the states before and after `n` consecutive steps.

    The states are those at the last token of each document. The rule of Gromov et al. (arXiv 2403.17887) removes the
    block of `n` layers with the smallest angle.

    Args:
        model: A name for `painters.models.load_model`, encoders too, or a loaded model.
        inputs: The name of a task, a .txt file, or a list of texts, as in `measure`.
        plan: The plan that runs; by default the model as it is.
        n: How many steps lie between the two states, from 1 to the number of steps.
        tokenizer: The tokenizer of a loaded model.
        batch_size: How many documents run at a time.
        limit: Use only the first `limit` documents, or a share of them, such as 0.1.
        sample: Use this many documents, drawn at random, instead.
        sample_seed: The seed of the draw; None for 0.
        max_length: Use only the first `max_length` tokens of each document.
        path: The stack of layers, where there are several or painters finds none: "encoder", "decoder" or the name of
            the module. An encoder-decoder's decoder reads the same text as its encoder, shifted by the start token.

    Returns:
        The angles in half turns (0 is the same direction, 0.5 a right angle), indexed by the first of the `n` steps.

    Raises:
        SimilarityError: `n` exceeds the number of steps, an option is below 1, or inputs hold no text; and what else
            `measure` raises.

    Examples:
        >>> angles = angular_distance("nano-llama", ["The cat sat.", "A dog ran."], n=4)
        >>> list(angles.index)
        ['0', '1', '2', '3', '4', '5', '6', '7', '8']
        >>> bool(((0 <= angles) & (angles <= 1)).all())
        True
    """
    options = MeasureOptions(tokenizer, batch_size, limit, max_length, path, None, sample, sample_seed)
    return _measure_token(model, inputs, plan, options).angle(n)


def norms(  # noqa: PLR0913 - one keyword for each option of a measurement
    model: Any,
    inputs: str | Path | Sequence[Text],
    plan: PlanLike | None = None,
    *,
    tokenizer: Any = None,
    batch_size: int = 8,
    limit: int | float | None = None,
    sample: int | None = None,
    sample_seed: int | None = None,
    max_length: int | None = None,
    path: str | None = None,
) -> pd.DataFrame:
    """Return the norms of the hidden states.

    Args:
        model: A name for `painters.models.load_model`, encoders too, or a loaded model.
        inputs: The name of a task, a .txt file, or a list of texts, as in `measure`.
        plan: The plan that runs; by default the model as it is.
        tokenizer: The tokenizer of a loaded model.
        batch_size: How many documents run at a time.
        limit: Use only the first `limit` documents, or a share of them, such as 0.1.
        sample: Use this many documents, drawn at random, instead.
        sample_seed: The seed of the draw; None for 0.
        max_length: Use only the first `max_length` tokens of each document.
        path: The stack of layers, where there are several or painters finds none: "encoder", "decoder" or the name of
            the module. An encoder-decoder's decoder reads the same text as its encoder, shifted by the start token.

    Returns:
        A DataFrame with one row per state and the columns norm, first_token, change and largest, as `measure` describes
        them.

    Raises:
        SimilarityError: An option below 1, or inputs that hold no text; and what else `measure` raises.

    Examples:
        >>> table = norms("nano-llama", ["The cat sat.", "A dog ran."], "0-2")
        >>> list(table.index), list(table.columns)
        (['embeddings', '0', '1', '2'], ['norm', 'first_token', 'change', 'largest'])
    """
    options = MeasureOptions(tokenizer, batch_size, limit, max_length, path, None, sample, sample_seed)
    return _measure_token(model, inputs, plan, options).table().drop(columns="influence")


def _measure_token(
    model: Any, inputs: str | Path | Sequence[Text], plan: PlanLike | None, options: MeasureOptions
) -> SimilarityRecord:
    """Return the record of mode "token"; its angles and profile are those of every mode."""
    [record] = _measure(model, inputs, plan, ["token"], options)
    return record


def _measure(
    model: Any,
    inputs: str | Path | Sequence[Text],
    plan: PlanLike | None,
    modes: str | Sequence[str],
    options: MeasureOptions,
) -> list[SimilarityRecord]:
    """Return the records of `measure`."""
    modes = _checked(modes)
    options.check()
    plan = None if plan is None else as_plan(plan)
    from painters.models import by_name_or_loaded, load_model
    from painters.similarity.inputs import read_inputs
    from painters.similarity.measures import LastTokenAngle, StateProfile
    from painters.similarity.states import ProgressCounter, States, cosines

    model, tokenizer = by_name_or_loaded(model, options.tokenizer, partial(load_model, encoders=True))
    read = read_inputs(inputs, options.selection)
    passes = 2 if "centred" in modes else 1
    with progress_callback(options.progress) as on_progress:
        states = States.of(
            model,
            tokenizer,
            read.texts,
            plan,
            batch_size=options.batch_size,
            max_length=options.max_length,
            path=options.path,
            counter=ProgressCounter(on_progress, passes * len(read.texts)),
        )
        results = cosines(
            states,
            modes,
            {"angles": LastTokenAngle(), "profile": StateProfile()},
            errors=states.cosines_by_document <= MOST_KEPT,
        )
    selected = {"sample_seed": read.sample_seed, "asked": read.asked}
    return [record.model_copy(update=selected) for record in states.records(read.name, modes, results)]


def _checked(modes: str | Sequence[str]) -> list[str]:
    """Return the distinct modes, in order; raise SimilarityError where one is unknown, or there is none."""
    distinct = [modes] if isinstance(modes, str) else list(dict.fromkeys(modes))
    for mode in distinct:
        if mode not in MODES:
            raise SimilarityError(f"no mode of similarity is called {mode!r}: the modes are {', '.join(MODES)}")
    if not distinct:
        raise SimilarityError(f"no mode given: name one or more of {', '.join(MODES)}")
    return distinct
