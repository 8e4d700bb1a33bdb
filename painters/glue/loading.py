"""Load encoders by name, with the weights that their checkpoint holds and no others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from painters.errors import first_line
from painters.glue.training import seeded
from painters.models import ModelError
from painters.models import load as models
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
    """Load an encoder as a sequence classifier in evaluation mode, with its tokenizer.

    Weights that the checkpoint lacks, such as the classifier's, have no values: they lie on the meta device, and
    `Scorer` initialises them for each fine-tuning. Only safetensors are read.

    Args:
        name: A bundled model, a folder that transformers can read, or a name on the hub, tried in this order.
        revision: The revision on the hub: a branch, a tag or a commit. None is the default branch.
        dtype: "float32", "bfloat16", or "auto", which is float32 whatever the weights were saved in: a step of
            fine-tuning is smaller than what bfloat16 resolves.
        device: Such as "cpu" or "cuda:1". None is the first GPU, or the CPU where there is none. On the CPU attention
            is transformers' eager one: for sentences it trains faster than the fused one.
        trust_remote_code: Whether code that comes with the model may run.

    Returns:
        The model and its tokenizer.

    Raises:
        ModelError: For an unknown name, dtype or device, a model that cannot be read, and one that is no encoder.

    Examples:
        >>> from painters import glue
        >>> model, tokenizer = glue.load_encoder("nano-bert", device="cpu")
        >>> model.config.num_hidden_layers, model.classifier.weight.is_meta
        (12, True)
    """
    if dtype not in DTYPES:
        raise ModelError(f"encoder {name!r} in dtype {dtype!r}: choose one of {', '.join(DTYPES)}")
    target = models.parse_device(device)
    config = models.read_config(name, revision, trust_remote_code)
    models.refuse_small_files(config, name, trust_remote_code)
    source = models.source_of(name)
    shared = {"revision": revision, "trust_remote_code": trust_remote_code, **source.options}
    try:
        tokenizer = patiently(lambda: transformers.AutoTokenizer.from_pretrained(source.location, **shared))
        # The seed only keeps torch's random state as it was: the weights that are drawn here are dropped below.
        with models.only_errors(), models.bars(shown=False), seeded(0, torch.device("cpu")):
            model, loading_info = patiently(
                lambda: transformers.AutoModelForSequenceClassification.from_pretrained(
                    source.location,
                    config=config,
                    dtype="float32" if dtype == "auto" else dtype,
                    use_safetensors=True,
                    output_loading_info=True,
                    attn_implementation="eager" if target.type == "cpu" else None,
                    **shared,
                )
            )
    except Exception as error:  # transformers raises any exception for files that it did not write
        raise ModelError(
            f"model {name!r}: its config is there, and it cannot be read as an encoder: {first_line(error)}. "
            f"painters reads safetensors and a tokenizer of the transformers library, and no pickled weights"
        ) from error
    require_classifier(model, name)
    model.to(target)
    _drop_values(model, loading_info["missing_keys"])
    return model.eval(), tokenizer


def require_classifier(model: Any, name: str) -> None:
    """Raise ModelError for a model whose sequence head is not called `classifier`, as a decoder's."""
    if not isinstance(getattr(model, "classifier", None), nn.Module):
        raise ModelError(
            f"model {name!r} is read as {type(model).__name__}, which has no classifier: painters.glue fine-tunes "
            f"encoders such as BERT. Decoders are scored on lm-eval's tasks (painters.evaluate)"
        )


def pretrained_weights(model: Any) -> dict[str, Tensor]:
    """Return the weights that a fine-tuning starts from, named as in a model with a head.

    The classifier's are left out, and so are those on the meta device: `load_encoder` leaves there what the checkpoint
    does not hold.
    """
    prefix = "" if model.base_model is not model else f"{model.base_model_prefix}."
    named = {prefix + name: weight.detach() for name, weight in model.state_dict().items()}
    return {name: weight for name, weight in named.items() if not weight.is_meta and not name.startswith("classifier.")}


def refuse_random_encoder(name: str, model: Any, missing: Sequence[str]) -> None:
    """Raise ModelError where weights of the encoder itself are among `missing`, and so would stay random.

    A missing pooler is fine: it is initialised afresh, as the classifier is.
    """
    base = f"{model.base_model_prefix}."
    random = [key for key in missing if key.startswith(base) and not key.startswith(f"{base}pooler.")]
    if random:
        raise ModelError(
            f"model {name!r} holds {len(random)} of its encoder's weights under no known name, such as {random[0]}: it "
            f"must be an encoder of the transformers library, bare or with a head"
        )


def _drop_values(model: nn.Module, names: set[str]) -> None:
    """Move the parameters of these names, and the classifier's, to the meta device."""
    for name, parameter in list(model.named_parameters()):
        if name in names or name.startswith("classifier."):
            owner, _, attribute = name.rpartition(".")
            empty = nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=parameter.requires_grad)
            setattr(model.get_submodule(owner), attribute, empty)
