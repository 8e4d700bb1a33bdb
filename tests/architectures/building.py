"""A tiny random model of any type, and the inputs that its forward needs."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.auto import modeling_auto

from architectures.configs import FIRST_SPECIAL

TASKS = (
    "CAUSAL_LM",
    "SEQ_TO_SEQ_CAUSAL_LM",
    "IMAGE_TEXT_TO_TEXT",
    "MULTIMODAL_LM",
    "SPEECH_SEQ_2_SEQ",
    "MASKED_LM",
    "IMAGE_CLASSIFICATION",
    "CTC",
    "",
    "PRETRAINING",
    "AUDIO_CLASSIFICATION",
    "VIDEO_CLASSIFICATION",
    "TEXT_TO_WAVEFORM",
    "TEXT_TO_SPECTROGRAM",
    "IMAGE_SEGMENTATION",
    "UNIVERSAL_SEGMENTATION",
    "OBJECT_DETECTION",
    "DEPTH_ESTIMATION",
    "ZERO_SHOT_IMAGE_CLASSIFICATION",
    "ZERO_SHOT_OBJECT_DETECTION",
    "MASK_GENERATION",
    "IMAGE_TO_IMAGE",
    "KEYPOINT_DETECTION",
    "KEYPOINT_MATCHING",
    "TIME_SERIES_PREDICTION",
    "RETRIEVAL",
    "RNNT",
    "TDT",
    "BACKBONE",
)
"""The heads, the most telling first; "" is the model without a head."""

PARAMETERS = 40_000_000
"""What still counts as tiny."""


class NotTinyError(Exception):
    """A model that the rules did not make small: it needs an override."""


def classes(config: PreTrainedConfig) -> list[type[PreTrainedModel]]:
    """The model classes of this configuration, the most telling first."""
    found: dict[type[PreTrainedModel], None] = {}
    for task in TASKS:
        mapping = getattr(modeling_auto, f"MODEL_FOR_{task}_MAPPING" if task else "MODEL_MAPPING", {})
        if type(config) in mapping:
            kind = mapping[type(config)]
            for one in kind if isinstance(kind, tuple | list) else [kind]:
                found.setdefault(one)
    # What is an encoder unless it is told otherwise counts as one.
    masked = modeling_auto.MODEL_FOR_MASKED_LM_MAPPING
    if type(config) in masked and not (getattr(config, "is_decoder", False) or config.is_encoder_decoder):
        return sorted(found, key=lambda kind: kind is not masked[type(config)])
    return list(found)


def build(kind: type[PreTrainedModel], config: PreTrainedConfig, noise: float = 0.1) -> PreTrainedModel:
    """A fresh model in evaluation mode. Noise on every parameter, so that no zero or one hides what a layer does."""
    with torch.device("meta"):
        try:
            size = sum(p.numel() for p in kind(config).parameters())
        except Exception:  # what cannot be built on the meta device is built below or fails there
            size = 0
    if size > PARAMETERS:
        raise NotTinyError(f"{size / 1e6:.0f} million parameters after shrinking")
    torch.manual_seed(0)
    model = kind(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter.add_(torch.randn_like(parameter), alpha=noise)
    return model.float().eval()


ROWS = 2
LENGTH = 12


def tokens(rows: int = ROWS, length: int = LENGTH, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, FIRST_SPECIAL - 10, (rows, length), generator=generator)


def inputs(model: PreTrainedModel) -> Iterator[dict[str, Any]]:
    """What the forward of `model` may need, seeded: the least first, then everything that it takes, then patches."""
    yield least(model)
    yield everything(model)
    yield patches(model)


def everything(model: PreTrainedModel) -> dict[str, Any]:
    """Text, an image and a sound, where the forward takes them, and what else it needs."""
    torch.manual_seed(1)
    taken = inspect.signature(model.forward).parameters
    given = {"input_ids": tokens()} if "input_ids" in taken else {}
    given |= {name: signal(name, model.config, model) for name in SIGNALS if name in taken}
    if "decoder_input_ids" in taken:
        given["decoder_input_ids"] = tokens(length=7, seed=2)
    return given | {
        name: make(model.config)
        for name, make in NEEDED.items()
        if name in taken and (name in ASKED or required(taken, name)) and name not in given
    }


def patches(model: PreTrainedModel) -> dict[str, Any]:
    """The patches of two images in one row, and how many there are in time, height and width."""
    torch.manual_seed(1)
    taken = inspect.signature(model.forward).parameters
    config = model.config
    first, side = next(iter(taken)), number(config, "patch_size", default=8)
    frames = number(config, "temporal_patch_size", "patch_temporal", default=1)
    channels = number(config, "in_channels", "num_channels", "in_chans", default=3)
    grid = torch.tensor([[1, 4, 4], [1, 4, 8]])
    given = {first: torch.randn(int(grid.prod(1).sum()), channels * frames * side * side)}
    return given | {name: grid for name in ("grid_thw", "image_grid_thw") if name in taken}


def least(model: PreTrainedModel) -> dict[str, Any]:
    """The main input of `model`, and what its forward cannot do without."""
    torch.manual_seed(1)
    taken = inspect.signature(model.forward).parameters
    config = model.config
    main = model.main_input_name
    text = {"input_ids": tokens()} if "input_ids" in taken else {}
    given: dict[str, Any] = {}
    if main in ("pixel_values", "pixel_values_videos", "input_features", "input_values", "spectrogram"):
        given[main] = signal(main, config, model)
        if model.can_generate() and text and not config.is_encoder_decoder:
            given = {}  # a language model that also takes images: text alone will do
    if (text and not given) or required(taken, "input_ids"):
        given |= text
        if "attention_mask" in taken and not (main in given and main != "input_ids"):
            mask = torch.ones(ROWS, LENGTH, dtype=torch.long)
            mask[1, -2:] = 0
            given["attention_mask"] = mask
    if "decoder_input_ids" in taken and (config.is_encoder_decoder or required(taken, "decoder_input_ids")):
        given["decoder_input_ids"] = tokens(length=7, seed=2)
    if not given:
        for name in ("pixel_values", "input_features", "input_values", "inputs_embeds", "hidden_states"):
            if name in taken:
                given[name] = signal(name, config, model)
                break
    for name, make in NEEDED.items():
        if required(taken, name) and name not in given:
            given[name] = make(config)
    return given


def required(taken: Any, name: str) -> bool:
    return name in taken and taken[name].default is inspect.Parameter.empty


def number(config: Any, *names: str, default: int) -> int:
    """The first of these fields that the configuration or one of its parts has, as one number."""
    for part in parts(config):
        for name in names:
            value = getattr(part, name, None)
            if isinstance(value, list | tuple) and value:
                value = value[-1]
            if isinstance(value, int) and not isinstance(value, bool):
                return value
    return default


def parts(config: Any) -> Iterator[Any]:
    yield config
    for value in vars(config).values():
        if isinstance(value, PreTrainedConfig):
            yield from parts(value)


def signal(name: str, config: Any, model: nn.Module) -> Tensor:
    """An image, a sound or a stream of the shape that the configuration asks for."""
    if name.startswith("pixel_values"):
        channels = number(config, "num_channels", "in_channels", "in_chans", default=3)
        size = number(config, "image_size", "crop_size", "input_size", "img_size", default=64)
        height = getattr(config, "image_size", size)
        height = height[0] if isinstance(height, list | tuple) else size
        frames = (
            [number(config, "num_frames", default=2)]
            if name.endswith("videos") or hasattr(config, "num_frames")
            else []
        )
        if getattr(config, "model_type", "") in ("swin", "swinv2"):
            channels = config.num_channels
        return torch.randn(ROWS, *frames, channels, height, size)
    if name == "input_features" or name == "spectrogram":
        bins = number(
            config, "num_mel_bins", "feature_projection_input_dim", "n_mels", "input_feat_per_channel", default=16
        )
        encoder = getattr(config, "max_source_positions", None)
        like_whisper = type(model).__name__.startswith(BINS_FIRST)
        length = 2 * encoder if isinstance(encoder, int) and like_whisper else 64
        shape = (ROWS, bins, length) if like_whisper else (ROWS, length, bins)
        return torch.randn(*shape)
    if name == "input_values" and type(model).__name__.startswith("AST"):
        return torch.randn(ROWS, config.max_length, config.num_mel_bins)
    if name == "input_values" and type(model).__name__.startswith(CHANNEL_FIRST):
        return torch.randn(ROWS, number(config, "audio_channels", default=1), 1920)
    if name == "input_values":
        return torch.randn(ROWS, 1600)
    return torch.randn(ROWS, LENGTH, number(config, "hidden_size", "d_model", default=64))


SIGNALS = ("pixel_values", "input_features", "input_values")
ASKED = (
    "encoder_hidden_states",
    "future_values",
    "future_time_features",
    "input_features_mask",
    "bbox",
    "visual_embeds",
    "query_embeds",
    "qformer_input_ids",
)
"""What some forwards refuse to be without although their signature has a default."""
BINS_FIRST = ("AudioFlamingo3", "GlmAsr", "MossTranscribe", "Qwen2Audio", "Qwen3ASR", "Voxtral", "Whisper")
CHANNEL_FIRST = ("Dac", "Encodec", "Mimi", "PocketTts", "Xcodec")
"""Beginnings of the names of classes whose sounds have another shape."""


def past(config: Any) -> int:
    """The steps of a time series that come before the ones to predict."""
    return number(config, "context_length", default=8) + max(getattr(config, "lags_sequence", None) or [0])


NEEDED: dict[str, Any] = {
    "bbox": lambda config: torch.arange(4).expand(ROWS, LENGTH, 4).contiguous(),
    "input_features_mask": lambda config: torch.ones(ROWS, 64, dtype=torch.long),
    "past_values": lambda config: torch.randn(
        ROWS, past(config), *([config.num_input_channels] if hasattr(config, "num_input_channels") else [])
    ),
    "past_time_features": lambda config: torch.randn(ROWS, past(config), config.num_time_features),
    "past_observed_mask": lambda config: torch.ones(ROWS, past(config)),
    "future_values": lambda config: torch.randn(ROWS, config.prediction_length),
    "future_time_features": lambda config: torch.randn(ROWS, config.prediction_length, config.num_time_features),
    "pixel_attention_mask": lambda config: torch.ones(ROWS, 16, dtype=torch.long),
    "spatial_shapes": lambda config: torch.tensor([[4, 4]] * ROWS),
    "query_embeds": lambda config: torch.randn(ROWS, 8, number(config, "hidden_size", default=64)),
    "qformer_input_ids": lambda config: tokens(),
    "grid_thw": lambda config: torch.tensor([[1, 4, 4]] * ROWS),
    "merge_sizes": lambda config: torch.tensor([2] * ROWS),
    "visual_embeds": lambda config: torch.randn(ROWS, 3, number(config, "visual_embedding_dim", default=64)),
    "pixel_values": lambda config: signal("pixel_values", config, nn.Identity()),
    "input_features": lambda config: signal("input_features", config, nn.Identity()),
    "input_values": lambda config: signal("input_values", config, nn.Identity()),
    "attention_mask": lambda config: torch.ones(ROWS, LENGTH, dtype=torch.long),
    "encoder_hidden_states": lambda config: torch.randn(
        ROWS, LENGTH, number(config, "hidden_size", "d_model", default=64)
    ),
}
