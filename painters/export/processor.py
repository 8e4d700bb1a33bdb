"""The files of a multimodal model's processor, which an export takes along as they are.

They say how pictures and sounds become inputs, and how a chat is written. No weight depends on them, and loading them
may take libraries that are not installed, so they are copied.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Final

from transformers import ProcessorMixin
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

from painters import _compat
from painters.errors import first_line
from painters.export.files import ExportError
from painters.models.hub import patiently

FILES: Final = (
    *("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json"),
    *("audio_tokenizer_config.json", "chat_template.json", "chat_template.jinja", "additional_chat_templates"),
)
"""The names under which transformers keeps a processor, beside the tokenizer's own files."""


def write_processor(model: Any, tokenizer: Any, folder: Path, source: str) -> None:
    """Write the tokenizer to `folder`, or the processor that contains it, and the source's other processor files.

    Args:
        model: The source, which knows where it was loaded from.
        tokenizer: Its tokenizer or processor.
        folder: Where to write.
        source: The name of the source in messages.

    Raises:
        ExportError: The files are on the hub and cannot be fetched.
    """
    tokenizer.save_pretrained(folder)
    if isinstance(tokenizer, ProcessorMixin):
        return
    origin = _folder_of(model, source)
    if origin is None:
        return
    for name in FILES:
        path, target = origin / name, folder / name
        if path.is_dir():
            shutil.copytree(path, target, dirs_exist_ok=True)
        elif path.is_file() and not target.exists():
            shutil.copyfile(path, target)


def _folder_of(model: Any, source: str) -> Path | None:
    """Return the folder with the files that the model was loaded from, fetched if need be; None where there is none."""
    name = str(model.name_or_path or "")
    if name and Path(name).is_dir():
        return Path(name)
    revision = _compat.commit_hash(model.config)
    if revision is None or model.config.model_type not in PROCESSOR_MAPPING_NAMES:
        return None
    from huggingface_hub import snapshot_download

    patterns = [name for name in FILES if "." in name] + ["additional_chat_templates/*"]
    try:
        return Path(patiently(lambda: snapshot_download(name, revision=revision, allow_patterns=patterns)))
    except Exception as error:  # the hub and the network raise what they like
        raise ExportError(
            f"{source}: the files of its processor are on the hub and cannot be fetched: {first_line(error)}. Be "
            f"online, or fetch them once with `hf download {name}`"
        ) from error
