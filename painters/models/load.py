"""Load models by name: bundled models, folders, and models of the hub."""

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

from painters import _compat
from painters.errors import first_line
from painters.models import bundled, fetched, gguf
from painters.models.adapters import Adapter, find_adapter, with_adapter
from painters.models.config import check_file_sizes, check_weights, read_checked
from painters.models.errors import LayersUnknownError, ModelError, ModelRequestError
from painters.models.hub import patiently
from painters.models.source import ModelSource, find_source
from painters.stack import LayerStack, without_wrapper

__all__ = [
    "BUNDLED",
    "ModelError",
    "bars",
    "by_name_or_loaded",
    "describe",
    "load_model",
    "num_layers",
    "only_errors",
    "refuse_encoder",
    "refuse_small_files",
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
    merge_adapters: bool = False,
) -> tuple[Any, Any]:
    """Load a model in evaluation mode, and its tokenizer. Only safetensors and GGUF files are read.

    The weights of a GGUF file are dequantised: the model is a plain one, which can be trained and exported.

    Args:
        name: A bundled model, one that `painters models --fetch` got, a folder that transformers can read, a GGUF file,
            or a name on the hub, with `/file.gguf` behind it for a GGUF file there; tried in this order.
        revision: Branch, tag or commit on the hub.
        dtype: "float32", "bfloat16", "float16", or "auto": the dtype of the weights, and float32 for bundled models,
            which are made for the CPU, and for GGUF files.
        device: Where the model goes, such as "cuda:1"; by default the first GPU, or the CPU without one.
        device_map: Instead of `device`: "auto" spreads the model over several GPUs.
        trust_remote_code: Run code that comes with the model.
        encoders: Also load an encoder, as the class that its configuration names. lm-eval cannot score one.
        merge_adapters: Add adapters to the weights of their model. Without it they run beside them, as peft runs them.

    Returns:
        The model and its tokenizer.

    Raises:
        ModelRequestError: An option has a value that it cannot have, or excludes another.
        ModelError: The model is not there, cannot be read or lacks weights, or is an encoder without `encoders`.

    Examples:
        >>> model, tokenizer = load_model("nano-llama", device="cpu")
        >>> type(model).__name__, model.config.num_hidden_layers
        ('LlamaForCausalLM', 12)
        >>> ids = tokenizer("The cat", return_tensors="pt")["input_ids"]
        >>> model(ids).logits.shape[:2] == ids.shape
        True
    """
    if dtype not in DTYPES:
        raise ModelRequestError(f"model {name!r} in dtype {dtype!r}: choose one of {', '.join(DTYPES)}")
    if device is not None and device_map is not None:
        raise ModelRequestError(
            f"model {name!r} on device {device!r} and by device_map {device_map!r}: give one of the two"
        )
    target = None if device_map else parse_device(device)
    _check_device_map(device_map)
    config = read_config(name, revision, trust_remote_code)
    if (adapter := find_adapter(name)) is not None:
        options = {"dtype": dtype, "device": device, "device_map": device_map, "encoders": encoders}
        return _load_adapter(adapter, merge=merge_adapters, trust_remote_code=trust_remote_code, **options)
    if not encoders:
        refuse_encoder(config, name)
    auto_class = _auto_class(config)
    source = source_of(name)
    shared = {"revision": revision, "trust_remote_code": trust_remote_code, **source.options}
    is_float32 = dtype == "auto" and (name in BUNDLED or source.gguf_file is not None)
    options = gguf.load_options() if source.gguf_file else {}
    refuse_small_files(config, name, trust_remote_code)
    try:
        tokenizer = patiently(lambda: transformers.AutoTokenizer.from_pretrained(source.location, **shared))
        with bars(shown=name not in BUNDLED and sys.stderr.isatty()), only_errors():
            model, loading_info = patiently(
                lambda: auto_class.from_pretrained(
                    source.location,
                    config=config,
                    dtype="float32" if is_float32 else dtype,
                    device_map=device_map,
                    use_safetensors=True,
                    ignore_mismatched_sizes=True,  # check_weights refuses them, and names them
                    output_loading_info=True,
                    **options,
                    **shared,
                )
            )
    except Exception as error:  # any: transformers checks little of files that it did not write
        raise ModelError(
            f"model {name!r}: its config is there, and the rest cannot be read: {first_line(error)}. "
            f"painters reads a GGUF file, or safetensors and a tokenizer of transformers, and no pickled weights"
        ) from error
    check_weights(name, loading_info)
    if source.gguf_file:
        file = gguf.file_of(source, name, revision)
        gguf.check_tokenizer(tokenizer, file, name)
        gguf.finish(model, file, name)
    if target is not None:
        model.to(target)
    return model.eval(), tokenizer


def _load_adapter(adapter: Adapter, *, merge: bool, trust_remote_code: bool, **options: Any) -> tuple[Any, Any]:
    """Load the model that an adapter belongs on, and put the adapter on it; a tokenizer beside the adapter counts."""
    base, revision = adapter.base, adapter.revision
    model, tokenizer = load_model(base, revision=revision, trust_remote_code=trust_remote_code, **options)
    if adapter.has_tokenizer:
        tokenizer = transformers.AutoTokenizer.from_pretrained(adapter.folder, trust_remote_code=trust_remote_code)
    return with_adapter(model, adapter, merge=merge), tokenizer


def by_name_or_loaded(model: Any, tokenizer: Any, load: Callable[[str], tuple[Any, Any]]) -> tuple[Any, Any]:
    """Return a model and its tokenizer from what a function was given: a name, or the two of them.

    Args:
        model: A model, with or without peft's wrapper, or the name of one.
        tokenizer: Its tokenizer; None with a name.
        load: Loads a model and its tokenizer by name.

    Returns:
        What `load` returns for a name; otherwise the model, without peft's wrapper, and the tokenizer.

    Raises:
        ModelError: A name with a tokenizer, or a model without one.

    Examples:
        >>> model, tokenizer = by_name_or_loaded("nano-llama", None, load_model)
        >>> by_name_or_loaded(model, tokenizer, load_model) == (model, tokenizer)
        True
    """
    if isinstance(model, str):
        if tokenizer is not None:
            raise ModelError(
                f"model {model!r} by name with a tokenizer: load both yourself, or leave the tokenizer out"
            )
        return load(model)
    if tokenizer is None:
        raise ModelError(f"{type(model).__name__} without its tokenizer: give tokenizer=, or the model by name")
    return without_wrapper(model), tokenizer


def num_layers(
    name: str, *, revision: str | None = None, trust_remote_code: bool = False, stack: str | None = None
) -> int:
    """Return the number of layers of a model, from its configuration alone.

    Args:
        name: A bundled model, a folder, or a name on the hub.
        revision: Branch, tag or commit on the hub.
        trust_remote_code: Run code that comes with the model.
        stack: Which list of layers is meant where there are several, as in `surgery`.

    Returns:
        `num_hidden_layers` of the configuration; of the text model where there are several. The length of the list of
        layers where `stack` is given, or the model is an encoder-decoder.

    Raises:
        ModelError: The model is not there, or its configuration does not state the number.
        SurgeryError: The model has no such stack, or is an encoder-decoder and no stack is given.

    Examples:
        >>> num_layers("nano-llama")
        12
    """
    config = read_config(name, revision, trust_remote_code)
    if stack is not None or getattr(config, "is_encoder_decoder", False):
        return LayerStack.find(_skeleton(config, name, trust_remote_code), stack).num_layers
    count = getattr(config.get_text_config(), "num_hidden_layers", None)
    if type(count) is not int or count < 1:
        raise LayersUnknownError(
            f"model {name!r}: its configuration states no num_hidden_layers; load the model and look"
        )
    return count


def skeleton(name: str, *, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """Build a model on the meta device: its modules without their weights, from its configuration alone.

    Args:
        name: A bundled model, a folder, or a name on the hub.
        revision: Branch, tag or commit on the hub.
        trust_remote_code: Run code that comes with the model.

    Returns:
        A model of the class that the configuration names; without one, what `AutoModel` makes of it.

    Raises:
        ModelError: The model is not there, or transformers cannot build it.

    Examples:
        >>> model = skeleton("nano-llama")
        >>> model.device.type, len(model.model.layers)
        ('meta', 12)
    """
    return _skeleton(read_config(name, revision, trust_remote_code), name, trust_remote_code)


def _skeleton(config: Any, name: str, trust_remote_code: bool) -> Any:
    """Build the model of a configuration on the meta device; `name` is for messages."""
    named_class = _named_class(config)
    auto_class: Any = transformers.AutoModel
    with torch.device("meta"):
        try:
            if named_class is not None:
                return _compat.model_from_config(named_class, config)
            return auto_class.from_config(config, trust_remote_code=trust_remote_code)
        except Exception as error:  # any: transformers checks little of a configuration that it did not write
            raise ModelError(
                f"model {name!r}: transformers cannot build a model of type {config.model_type!r} from its "
                f"configuration: {first_line(error)}. Load it yourself and call painters.stack.inspect_stack(model)"
            ) from error


def refuse_small_files(config: Any, name: str, trust_remote_code: bool) -> None:
    """Raise ModelError for a folder whose configuration describes far more than its weight files can hold.

    transformers would allocate what is missing, and draw it at random.

    Args:
        config: The model's configuration.
        name: The model's name. Bundled models and names on the hub are not checked.
        trust_remote_code: Run code that comes with the model.

    Raises:
        ModelError: The files have less than 0.1 bytes for each parameter.

    Examples:
        >>> folder = Path("broken")
        >>> folder.mkdir()
        >>> _ = (folder / "model.safetensors").write_bytes(bytes(100))
        >>> config = transformers.GPT2Config(n_embd=8, n_layer=2, n_head=2, vocab_size=1000)
        >>> refuse_small_files(config, "broken", trust_remote_code=False)
        Traceback (most recent call last):
        painters.models.errors.ModelError: model 'broken': its config.json describes ... parameters, and its
        *.safetensors have 100 bytes: they belong to another model, or are not whole
    """
    source = source_of(name)
    if name not in BUNDLED and source.is_local and source.path.exists():
        check_file_sizes(_skeleton(config, name, trust_remote_code), name, source.path)


def refuse_encoder(config: Any, name: str) -> None:
    """Raise ModelError for an encoder without a decoder, such as BERT.

    lm-eval would load one as if it were causal, and its numbers would mean nothing: each position of an encoder
    already sees the token that it is asked to predict.

    Args:
        config: The model's configuration.
        name: The model's name in the message.

    Raises:
        ModelError: The model is an encoder.

    Examples:
        >>> refuse_encoder(transformers.BertConfig(), "bert")
        Traceback (most recent call last):
        painters.models.errors.ModelError: model 'bert' is an encoder (bert): ...
    """
    if _is_encoder(config):
        raise ModelError(
            f"model {name!r} is an encoder ({config.model_type}): lm-eval's tasks need a model that predicts the next "
            f"token. Encoders are fine-tuned and scored on classification tasks (painters.glue)"
        )


def _is_encoder(config: Any) -> bool:
    """Return whether a configuration is of an encoder without a decoder.

    Those are the model types that transformers has for masked tokens.
    """
    masked = getattr(config, "model_type", None) in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return masked and not (getattr(config, "is_decoder", False) or getattr(config, "is_encoder_decoder", False))


def _auto_class(config: Any) -> Any:
    """Return the class that loads a model of this configuration.

    An encoder gets the head that it was saved with, so that no weight is drawn at random.
    """
    if _is_encoder(config):
        return _named_class(config) or transformers.AutoModelForMaskedLM
    causal, seeing = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING, modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    if type(config) in seeing and type(config) not in causal and not config.is_encoder_decoder:
        return transformers.AutoModelForImageTextToText  # a text model behind one of vision, such as LLaVA
    return transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM


def _named_class(config: Any) -> Any:
    """Return the model class that the configuration names; None where transformers has none of that name."""
    names = getattr(config, "architectures", None)
    kind = getattr(transformers, names[0], None) if isinstance(names, list) and names else None
    return kind if isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel) else None


def describe(model: Any) -> tuple[str, str | None]:
    """Return the name that records give a model, and its commit on the hub.

    Args:
        model: A model of the transformers library.

    Returns:
        The bundled model's name, the folder, the GGUF file, or the name on the hub; the class and "in memory" for a
        model that was not loaded. And the commit on the hub, or the name of a GGUF file with its SHA-256; None for
        other models.

    Examples:
        >>> model, _ = load_model("nano-llama", device="cpu")
        >>> describe(model)
        ('nano-llama', None)
    """
    path = str(getattr(model, "name_or_path", "") or "")
    for name, folder in BUNDLED.items():
        if path and Path(path) == folder:
            return name, None
    return path or f"{type(model).__name__} in memory", _compat.commit_hash(model.config)


def weights_digest(model: Any, samples: int = 4096) -> str:
    """Return a digest of a model's weights, which changes with their values, names and shapes.

    Only evenly spaced numbers of each tensor are read. Fine-tuning moves nearly all numbers, so it is noticed, and a
    model with seven billion takes no longer than its three hundred tensors. Of tensors on the meta device only names
    and shapes count.

    Args:
        model: A model of the transformers library.
        samples: About how many numbers of each tensor are read.

    Returns:
        Twelve hexadecimal digits.

    Examples:
        >>> model, _ = load_model("nano-llama", device="cpu")
        >>> before = weights_digest(model)
        >>> len(before)
        12
        >>> _ = model.lm_head.weight.data.mul_(2)
        >>> weights_digest(model) == before
        False
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        if not tensor.is_meta and tensor.numel():
            flat = tensor.detach().reshape(-1)
            digest.update(flat[:: max(1, flat.numel() // samples)].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:12]


def source_of(name: str) -> ModelSource:
    """Return where the files of the model `name` are."""
    return ModelSource(str(BUNDLED[name]), is_local=True) if name in BUNDLED else find_source(name)


def read_config(name: str, revision: str | None, trust_remote_code: bool) -> Any:
    """Return the configuration of the model `name`; ModelError where it is not there or cannot be used."""
    bundled.check_name(name)
    source = source_of(name)
    if source.gguf_file:
        gguf.require_gguf(name)
    if source.is_local:
        if revision is not None:
            raise ModelRequestError(
                f"model {name!r} at revision {revision!r}: only the hub has revisions; leave it out"
            )
        if (adapter := find_adapter(name)) is not None:
            return read_config(adapter.base, adapter.revision, trust_remote_code)
        _require_files(name, source)
    config = read_checked(name, source, revision, trust_remote_code, _not_found)
    if source.gguf_file:
        causal = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type)
        config.architectures = [causal] if isinstance(causal, str) else None
    return config


def parse_device(device: str | None) -> torch.device:
    """Return the device of this name, by default the first GPU or the CPU; ModelError without it."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        parsed = torch.device(device)
    except RuntimeError as error:
        raise ModelRequestError(
            f"device {device!r}: torch knows no such device; try cpu, cuda, cuda:1 or mps"
        ) from error
    if parsed.type == "cuda" and (parsed.index or 0) >= torch.cuda.device_count():
        available = f"{torch.cuda.device_count()} CUDA devices" if torch.cuda.is_available() else "no CUDA device"
        raise ModelError(f"device {device!r}: torch finds {available} here; leave the device out, or choose cpu")
    if parsed.type == "mps" and not torch.backends.mps.is_available():
        raise ModelError(f"device {device!r}: torch finds no Apple GPU here; leave the device out, or choose cpu")
    return parsed


def _check_device_map(device_map: str | None) -> None:
    """Raise ModelRequestError for a map that is neither a way to spread a model nor a device."""
    if device_map is not None and device_map not in DEVICE_MAPS:
        try:
            parse_device(device_map)
        except ModelRequestError as error:
            raise ModelRequestError(
                f"device_map {device_map!r}: choose {', '.join(DEVICE_MAPS)}, or one device"
            ) from error


def _require_files(name: str, source: ModelSource) -> None:
    """Raise ModelError where there is no GGUF file at `source`, or no folder with a config.json."""
    path = source.path
    if source.gguf_file is not None:
        if name in fetched.MODELS and not fetched.MODELS[name].is_fetched:
            raise ModelError(f"model {name!r} is not on this machine yet: {fetched.MODELS[name].advice}")
        if not path.is_file():
            raise ModelError(f"model {name!r}: there is no file of this name; check the path")
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise ModelError(f"model {name!r} is no GGUF file: it does not begin as one")
        return
    if path.is_file():
        raise ModelError(f"model {name!r} is a file: name the folder that config.json and *.safetensors are in")
    if not (path / "config.json").is_file():
        if name in BUNDLED:
            raise ModelError(f"bundled model {name!r} is not in this installation: reinstall painters from a full copy")
        raise ModelError(
            f"model {name!r} is a folder without config.json: it must be what save_pretrained writes "
            f"(config.json, *.safetensors, tokenizer files)"
        )


def _not_found(name: str, error: Exception) -> str:
    """Return the message for a model that is neither bundled nor a folder, and that the hub does not give."""
    tried = f"there is no folder of this name, and the hub or its local cache gave: {first_line(error)}"
    fetch = f"fetch it once with `hf download {name}`, online and without HF_HUB_OFFLINE; then it loads offline"
    return f"model {name!r}: it is not bundled ({', '.join(BUNDLED)}), {tried}. To go on, {fetch}"


@contextlib.contextmanager
def bars(shown: bool) -> Iterator[None]:
    """Show or hide the progress bars of transformers for the length of a block.

    Args:
        shown: Whether bars that are on stay on; bars that are off stay off.

    Yields:
        None.

    Examples:
        >>> with bars(shown=False):
        ...     transformers.utils.logging.is_progress_bar_enabled()
        False
    """
    before = transformers.utils.logging.is_progress_bar_enabled()
    if not shown:
        transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with contextlib.nullcontext() if shown else _compat.without_gguf_bar():
            yield
    finally:
        if before:
            transformers.utils.logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def only_errors() -> Iterator[None]:
    """Silence the warnings of transformers, such as of missing weights, for the length of a block.

    Yields:
        None.

    Examples:
        >>> with only_errors():
        ...     transformers.logging.get_verbosity() == transformers.logging.ERROR
        True
    """
    log = transformers.utils.logging
    level = log.get_verbosity()
    log.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        log.set_verbosity(level)
