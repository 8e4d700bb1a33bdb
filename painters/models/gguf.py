"""Read models from GGUF files: the weights are dequantised once, and a plain model is left."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Any

import transformers

from painters import _compat
from painters.models import fetched
from painters.models.errors import ModelError
from painters.models.source import ModelSource

__all__ = ["check_tokenizer", "file_of", "finish", "load_options", "require_gguf"]

_SPECIAL = {
    "bos_token": "tokenizer.ggml.bos_token_id",
    "eos_token": "tokenizer.ggml.eos_token_id",
    "unk_token": "tokenizer.ggml.unknown_token_id",
    "pad_token": "tokenizer.ggml.padding_token_id",
}
"""The tokenizer's attribute -> the key of its id in the file."""
_TOKENS, _TYPES = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"
_ADD_BOS = "tokenizer.ggml.add_bos_token"
_CONTROL = 3
"""The type of a control token, such as the one that ends a text."""


def require_gguf(name: str) -> None:
    """Raise ModelError where the package `gguf` is not installed.

    Args:
        name: The model's name in the message.

    Raises:
        ModelError: It is not installed.

    Examples:
        >>> require_gguf("model.gguf")
    """
    if importlib.util.find_spec("gguf") is None:
        raise ModelError(
            f"model {name!r} is a GGUF file, and the package gguf, which reads them, is not installed: "
            f"pip install 'painters[gguf]'"
        )


def load_options() -> dict[str, Any]:
    """Return the options of `from_pretrained` under which every weight becomes a plain tensor.

    transformers would otherwise keep weights packed where it has kernels for it, and numbers would differ by device.

    Examples:
        >>> load_options()["quantization_config"].dequantize
        True
    """
    return {"quantization_config": transformers.GgufConfig(dequantize=True)}


def file_of(source: ModelSource, name: str, revision: str | None) -> Path:
    """Return the GGUF file on this machine; one of the hub is fetched into the hub's cache.

    Args:
        source: Where the model is.
        name: The model's name in messages.
        revision: Branch, tag or commit on the hub.

    Raises:
        ModelError: The hub does not give the file.
    """
    if source.is_local:
        return source.path
    import huggingface_hub

    from painters.errors import first_line
    from painters.models.hub import patiently

    try:
        return Path(
            patiently(
                lambda: huggingface_hub.hf_hub_download(source.location, source.gguf_file or "", revision=revision)
            )
        )
    except Exception as error:  # no such repository or file, or no network
        raise ModelError(
            f"model {name!r}: the hub does not give the file {source.gguf_file}: {first_line(error)}"
        ) from error


def finish(model: Any, file: Path, name: str) -> None:
    """Make a plain model of one that was read from a GGUF file, and note the file in it.

    transformers keeps its quantiser beside the dequantised weights, and then refuses to train or save the model.

    Args:
        model: What `from_pretrained(..., gguf_file=...)` returned.
        file: The file.
        name: The model's name, which records give.
    """
    for attribute in ("hf_quantizer", "quantization_method"):
        if hasattr(model, attribute):
            delattr(model, attribute)
    model.is_quantized = False
    for part in model.modules():
        config: Any = getattr(part, "config", None)
        if hasattr(config, "quantization_config"):
            del config.quantization_config
    model.config.architectures = [type(model).__name__]
    _compat.set_origin(model, name, f"{file.name}@sha256:{fetched.sha256(file)}")


def check_tokenizer(tokenizer: Any, file: Path, name: str) -> None:
    """Check a tokenizer against the metadata of the GGUF file that it was made from.

    Its special tokens are set to those of the file. Whether a text begins with the BOS token is what the file says.

    Args:
        tokenizer: The tokenizer that transformers made of the file.
        file: The file.
        name: The model's name in messages.

    Raises:
        ModelError: The vocabulary is not the file's, or a control token of the file is no single token here.
    """
    metadata = _metadata(file)
    tokens = metadata.get(_TOKENS)
    if tokens is None:
        raise ModelError(f"model {name!r}: {file.name} holds no tokens; painters needs a GGUF file with its tokenizer")
    _check_vocabulary(tokenizer, tokens, file, name)
    for attribute, key in _SPECIAL.items():
        number = metadata.get(key)
        if number is None:
            continue
        if not 0 <= number < len(tokens):
            raise ModelError(f"model {name!r}: {file.name} says that {key} is {number}, and has {len(tokens)} tokens")
        if tokenizer.convert_tokens_to_ids(getattr(tokenizer, attribute) or "") != number:
            setattr(tokenizer, attribute, tokens[number])
    _set_bos(tokenizer, metadata, file, name)
    types = metadata.get(_TYPES) or []
    for number, kind in enumerate(types):
        if kind == _CONTROL and tokenizer.encode(tokens[number], add_special_tokens=False) != [number]:
            raise ModelError(
                f"model {name!r}: the control token {tokens[number]!r} of {file.name} is not read as one token by the "
                f"tokenizer that transformers makes of the file. Take the tokenizer of the model it was made from"
            )


def _set_bos(tokenizer: Any, metadata: dict[str, Any], file: Path, name: str) -> None:
    """Make texts begin with the BOS token where the file says so, and only there; warn where that cannot be."""
    wanted = metadata.get(_ADD_BOS)
    if wanted is None or tokenizer.bos_token_id is None or _adds_bos(tokenizer) == wanted:
        return
    tokenizer.add_bos_token = wanted
    if _adds_bos(tokenizer) != wanted:
        logging.getLogger("painters").warning(
            "model %r: %s says that add_bos_token is %s, and the tokenizer that transformers makes of it does "
            "otherwise. Scores are not touched: lm-eval adds no BOS token by default",
            *(name, file.name, wanted),
        )


def _adds_bos(tokenizer: Any) -> bool:
    """Return whether the tokenizer puts the BOS token before a text."""
    return bool(tokenizer.encode("a")[:1] == [tokenizer.bos_token_id])


def _check_vocabulary(tokenizer: Any, tokens: list[str], file: Path, name: str) -> None:
    """Raise ModelError where a token of the file has another number here."""
    numbers = tokenizer.get_vocab()
    wrong = [token for number, token in enumerate(tokens) if numbers.get(token) != number]
    repeated = len(tokens) - len(set(tokens))
    if len(wrong) > repeated:
        raise ModelError(
            f"model {name!r}: transformers reads {len(wrong)} of the {len(tokens)} tokens in {file.name} differently "
            f"from the file, such as {wrong[0]!r}: another release of transformers may read it"
        )


def _metadata(file: Path) -> dict[str, Any]:
    """Return the fields of the file's header that describe its tokenizer."""
    import gguf

    fields = gguf.GGUFReader(file).fields
    wanted = {_TOKENS, _TYPES, _ADD_BOS, *_SPECIAL.values()}
    return {key: field.contents() for key, field in fields.items() if key in wanted}
