"""Encoders by name, with the weights that their checkpoint holds and no others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from painters.glue.training import seeded
from painters.models import ModelError
from painters.models import load as models
from painters.models.config import first_line
from painters.models.hub import patiently

DTYPES = ("auto", "float32", "bfloat16")


def load_encoder(
    name: str,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    device: str | None = None,
    trust_remote_code: bool = False,
) -> tuple[Any, Any]:
    """The encoder `name` as a sequence classifier in evaluation mode, and its tokenizer.

    Weights that the checkpoint does not hold, such as the classifier's, have no values (they lie on the meta device):
    `Scorer` draws them for each fine-tuning. `name` is a bundled model, a folder that transformers can read, or a name
    on the hub, in this order. `dtype` "auto" is float32, whatever the weights were saved in: a step of fine-tuning is
    smaller than what bfloat16 resolves. `device` defaults to the first GPU, or the CPU, where attention is
    transformers' eager one: for sentences it trains faster than the fused one. Only safetensors are read.
    """
    if dtype not in DTYPES:
        raise ModelError(f"encoder {name!r} in dtype {dtype!r}: choose one of {', '.join(DTYPES)}")
    place = models.parse_device(device)
    config = models.read_config(name, revision, trust_remote_code)
    models.refuse_small_files(config, name, trust_remote_code)
    source, shared = models.source_of(name), {"revision": revision, "trust_remote_code": trust_remote_code}
    try:
        tokenizer = patiently(lambda: transformers.AutoTokenizer.from_pretrained(source, **shared))
        # What is drawn at random is thrown away.
        with models.only_errors(), models.bars(shown=False), seeded(0, torch.device("cpu")):
            model, found = patiently(
                lambda: transformers.AutoModelForSequenceClassification.from_pretrained(
                    source,
                    config=config,
                    dtype="float32" if dtype == "auto" else dtype,
                    use_safetensors=True,
                    output_loading_info=True,
                    attn_implementation="eager" if place.type == "cpu" else None,
                    **shared,
                )
            )
    except Exception as error:  # what transformers makes of files that it did not write: anything
        raise ModelError(
            f"model {name!r}: its config is there, and it cannot be read as an encoder: {first_line(error)}. "
            f"painters reads safetensors and a tokenizer of the transformers library, and no pickled weights"
        ) from error
    require_classifier(model, name)
    model.to(place)
    _empty(model, found["missing_keys"])
    return model.eval(), tokenizer


def require_classifier(model: Any, name: str) -> None:
    """Nothing; ModelError for a model whose head for sequences has another form, such as a decoder's."""
    if not isinstance(getattr(model, "classifier", None), nn.Module):
        raise ModelError(
            f"model {name!r} is read as {type(model).__name__}, which has no classifier: painters.glue fine-tunes "
            f"encoders such as BERT. Decoders are scored on lm-eval's tasks (painters.evaluate)"
        )


def pretrained(model: Any) -> dict[str, Tensor]:
    """The weights that a fine-tuning starts from, under the names of a model with a head.

    `load_encoder` leaves on the meta device what the checkpoint does not hold.
    """
    prefix = "" if model.base_model is not model else f"{model.base_model_prefix}."
    named = {prefix + name: weight.detach() for name, weight in model.state_dict().items()}
    return {name: weight for name, weight in named.items() if not weight.is_meta and not name.startswith("classifier.")}


def refuse_strangers(name: str, model: Any, fresh: Sequence[str]) -> None:
    """Nothing; ModelError where weights of the encoder itself would be random."""
    base = f"{model.base_model_prefix}."
    random = [key for key in fresh if key.startswith(base) and not key.startswith(f"{base}pooler.")]
    if random:
        raise ModelError(
            f"model {name!r} holds {len(random)} of its encoder's weights under no known name, such as {random[0]}: it "
            f"must be an encoder of the transformers library, bare or with a head"
        )


def _empty(model: nn.Module, names: set[str]) -> None:
    """Nothing; the parameters of these names, and the classifier's, have lost their values."""
    for name, parameter in list(model.named_parameters()):
        if name in names or name.startswith("classifier."):
            holder, _, last = name.rpartition(".")
            empty = nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=parameter.requires_grad)
            setattr(model.get_submodule(holder), last, empty)
