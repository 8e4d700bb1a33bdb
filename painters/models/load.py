"""Models by name: the bundled ones, folders, and the hub's, ready to be scored."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.models.auto import modeling_auto

from painters.models import bundled
from painters.models import config as _models_config
from painters.models.config import ModelError, ModelRequestError, first_line
from painters.models.hub import patiently
from painters.stack import without_wrapper

__all__ = [
    "BUNDLED",
    "ModelError",
    "by_name_or_loaded",
    "describe",
    "load_model",
    "num_layers",
    "refuse_encoder",
    "skeleton",
    "weights_digest",
]

BUNDLED = bundled.models()
"""The bundled models: name -> folder."""
DTYPES = ("auto", "float32", "bfloat16", "float16")
DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")


def load_model(
    name: str,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    device: str | None = None,
    device_map: str | None = None,
    trust_remote_code: bool = False,
    encoders: bool = False,
) -> tuple[Any, Any]:
    """The model `name` in evaluation mode, and its tokenizer.

    `name` is a bundled model, a folder that transformers can read, or a name on the hub, in this order.
    `dtype` "auto" is the dtype of the weights, and float32 for bundled models, which are made for the CPU.
    `device` defaults to the first GPU, or the CPU; `device_map="auto"` spreads a model over several GPUs
    instead. Only safetensors are read. `encoders` allows an encoder, as the class that its configuration names;
    without it ModelError says that lm-eval cannot score one.
    """
    if dtype not in DTYPES:
        raise ModelRequestError(f"model {name!r} in dtype {dtype!r}: choose one of {', '.join(DTYPES)}")
    if device is not None and device_map is not None:
        raise ModelRequestError(
            f"model {name!r} on device {device!r} and by device_map {device_map!r}: give one of the two"
        )
    place = None if device_map else parse_device(device)
    _check_device_map(device_map)
    config = read_config(name, revision, trust_remote_code)
    if not encoders:
        refuse_encoder(config, name)
    auto = _auto_class(config)
    source, shared = source_of(name), {"revision": revision, "trust_remote_code": trust_remote_code}
    refuse_small_files(config, name, trust_remote_code)
    try:
        tokenizer = patiently(lambda: transformers.AutoTokenizer.from_pretrained(source, **shared))
        with bars(shown=name not in BUNDLED and sys.stderr.isatty()), only_errors():
            model, found = patiently(
                lambda: auto.from_pretrained(
                    source,
                    config=config,
                    dtype="float32" if name in BUNDLED and dtype == "auto" else dtype,
                    device_map=device_map,
                    use_safetensors=True,
                    ignore_mismatched_sizes=True,  # refused below, with their names
                    output_loading_info=True,
                    **shared,
                )
            )
    except Exception as error:  # what transformers makes of files that it did not write: anything
        raise ModelError(
            f"model {name!r}: its config is there, and the rest cannot be read: {first_line(error)}. "
            f"painters reads safetensors and a tokenizer of the transformers library, and no pickled weights"
        ) from error
    _models_config.require_weights(name, found)
    if place is not None:
        model.to(place)
    return model.eval(), tokenizer


def by_name_or_loaded(model: Any, tokenizer: Any, load: Callable[[str], tuple[Any, Any]]) -> tuple[Any, Any]:
    """A model and its tokenizer: what `load` makes of a name, or the two as given, out of a wrapper of peft;
    ModelError for any other pair."""
    if isinstance(model, str):
        if tokenizer is not None:
            raise ModelError(
                f"model {model!r} by name with a tokenizer: load both yourself, or leave the tokenizer out"
            )
        return load(model)
    if tokenizer is None:
        raise ModelError(f"{type(model).__name__} without its tokenizer: give tokenizer=, or the model by name")
    return without_wrapper(model), tokenizer


def num_layers(name: str, *, revision: str | None = None, trust_remote_code: bool = False) -> int:
    """The number of layers of the model `name`, from its configuration alone."""
    config = read_config(name, revision, trust_remote_code).get_text_config()
    count = getattr(config, "num_hidden_layers", None)
    if type(count) is not int or count < 1:
        raise ModelError(f"model {name!r}: its configuration states no num_hidden_layers; load the model and look")
    return count


def skeleton(name: str, *, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """The model `name` on the meta device: its modules without their weights, from its configuration alone.

    Its class is the one that the configuration names, or the plain model.
    """
    return _skeleton(read_config(name, revision, trust_remote_code), name, trust_remote_code)


def _skeleton(config: Any, name: str, trust_remote_code: bool) -> Any:
    named = _named_class(config)
    plain: Any = transformers.AutoModel
    with torch.device("meta"):
        try:
            if named is not None:
                return named._from_config(config)
            return plain.from_config(config, trust_remote_code=trust_remote_code)
        except Exception as error:  # what transformers makes of a configuration that it did not write: anything
            raise ModelError(
                f"model {name!r}: transformers cannot build a model of type {config.model_type!r} from its "
                f"configuration: {first_line(error)}. Load it yourself and call painters.stack.inspect_stack(model)"
            ) from error


def refuse_small_files(config: Any, name: str, trust_remote_code: bool) -> None:
    """Nothing; ModelError for a folder `name` whose configuration describes far more than its weights can hold."""
    folder = Path(name)
    if name not in BUNDLED and folder.is_dir():
        _models_config.refuse_small_files(_skeleton(config, name, trust_remote_code), name, folder)


def refuse_encoder(config: Any, name: str) -> None:
    """Nothing; ModelError for an encoder without decoder, such as BERT.

    lm-eval would load one as if it were causal and return numbers that mean nothing: each position of an
    encoder already sees the token that it is asked to predict.
    """
    if _is_encoder(config):
        raise ModelError(
            f"model {name!r} is an encoder ({config.model_type}): lm-eval's tasks need a model that predicts the next "
            f"token. Encoders are fine-tuned and scored on classification tasks (painters.glue)"
        )


def _is_encoder(config: Any) -> bool:
    masked = getattr(config, "model_type", None) in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return masked and not (getattr(config, "is_decoder", False) or getattr(config, "is_encoder_decoder", False))


def _auto_class(config: Any) -> Any:
    """What loads a model of this configuration: an encoder with the head that it was saved with, so that no weight is
    drawn at random."""
    if _is_encoder(config):
        return _named_class(config) or transformers.AutoModelForMaskedLM
    return transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM


def _named_class(config: Any) -> Any:
    """The class of a model that the configuration names; None where transformers has none of that name."""
    names = getattr(config, "architectures", None)
    named = getattr(transformers, names[0], None) if isinstance(names, list) and names else None
    return named if isinstance(named, type) and issubclass(named, transformers.PreTrainedModel) else None


def describe(model: Any) -> tuple[str, str | None]:
    """The name that records give `model`, and its commit on the hub where it has one."""
    path = str(getattr(model, "name_or_path", "") or "")
    for name, folder in BUNDLED.items():
        if path and Path(path) == folder:
            return name, None
    commit = getattr(model.config, "_commit_hash", None)
    return path or f"{type(model).__name__} in memory", commit if isinstance(commit, str) else None


def weights_digest(model: Any, samples: int = 4096) -> str:
    """Twelve hexadecimal digits that change with the parameters, their names and their shapes.

    Of each parameter, `samples` evenly spaced numbers are read: fine-tuning moves nearly all of them, and a
    model of seven billion takes no longer than its three hundred tensors. Parameters on the meta device count
    by shape.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        if not tensor.is_meta and tensor.numel():
            flat = tensor.detach().reshape(-1)
            digest.update(flat[:: max(1, flat.numel() // samples)].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:12]


def source_of(name: str) -> str:
    return str(BUNDLED.get(name, name))


def read_config(name: str, revision: str | None, trust_remote_code: bool) -> Any:
    source = source_of(name)
    if Path(source).exists() or name in BUNDLED:
        _require_files(name, Path(source))
        if revision is not None:
            raise ModelRequestError(
                f"model {name!r} at revision {revision!r}: only the hub has revisions; leave it out"
            )
    return _models_config.read(name, source, revision, trust_remote_code, _not_found)


def parse_device(device: str | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise ModelRequestError(
            f"device {device!r}: torch knows no such device; try cpu, cuda, cuda:1 or mps"
        ) from error
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        found = f"{torch.cuda.device_count()} CUDA devices" if torch.cuda.is_available() else "no CUDA device"
        raise ModelError(f"device {device!r}: torch finds {found} here; leave the device out, or choose cpu")
    if place.type == "mps" and not torch.backends.mps.is_available():
        raise ModelError(f"device {device!r}: torch finds no Apple GPU here; leave the device out, or choose cpu")
    return place


def _check_device_map(device_map: str | None) -> None:
    """Nothing; ModelError for a map that is neither a way to spread a model nor a device."""
    if device_map is not None and device_map not in DEVICE_MAPS:
        try:
            parse_device(device_map)
        except ModelRequestError as error:
            raise ModelRequestError(
                f"device_map {device_map!r}: choose {', '.join(DEVICE_MAPS)}, or one device"
            ) from error


def _require_files(name: str, folder: Path) -> None:
    if folder.is_file():
        raise ModelError(f"model {name!r} is a file: name the folder that config.json and *.safetensors are in")
    if not (folder / "config.json").is_file():
        if name in BUNDLED:
            raise ModelError(f"bundled model {name!r} is not in this installation: reinstall painters from a full copy")
        raise ModelError(
            f"model {name!r} is a folder without config.json: it must be what save_pretrained writes "
            f"(config.json, *.safetensors, tokenizer files)"
        )


def _not_found(name: str, error: Exception) -> str:
    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1
    found = f"there is no folder of this name, and the hub or its local cache gave: {first_line(error)}"
    fetch = f"fetch it once with `hf download {name}`, online and without HF_HUB_OFFLINE; then it loads offline"
    advice = "check the path" if looks_local else fetch
    return f"model {name!r}: it is not bundled ({', '.join(BUNDLED)}), {found}. To go on, {advice}"


@contextlib.contextmanager
def bars(shown: bool) -> Iterator[None]:
    """Nothing; meanwhile transformers draws its progress bars or not."""
    before = transformers.utils.logging.is_progress_bar_enabled()
    if not shown:
        transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if before:
            transformers.utils.logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def only_errors() -> Iterator[None]:
    """Nothing; meanwhile transformers does not warn, such as of weights that a checkpoint lacks."""
    log = transformers.utils.logging
    level = log.get_verbosity()
    log.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        log.set_verbosity(level)
