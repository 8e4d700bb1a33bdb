"""Prompts as conversations: the chat template of a tokenizer, applied as lm-eval's `hf` model applies it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from jinja2.exceptions import TemplateError

from painters.experiment import Chat
from painters.tasks import TaskError

__all__ = ["ChatTemplate", "chat_template"]

ChatTemplate: TypeAlias = Callable[..., str]
"""Makes a prompt of turns, each with `role` and `content`; `add_generation_prompt` says whether the model's turn begins
behind it, or goes on."""


def chat_template(tokenizer: Any, chat: Chat | None, on_refused_system: Callable[[], None]) -> ChatTemplate | None:
    """Return what makes prompts of conversations; None where no template is to be applied.

    Args:
        tokenizer: The tokenizer of the model, or None where it is not known.
        chat: How prompts are made into conversations.
        on_refused_system: Called where a template takes no system's turn, which is then left out, as lm-eval does.

    Raises:
        TaskError: The tokenizer is not known, has no template, or none of this name.
    """
    if chat is None or not chat.apply_chat_template:
        return None
    if tokenizer is None:
        raise TaskError("apply_chat_template: the template is the tokenizer's, so give the tokenizer too")
    name = chat.apply_chat_template if isinstance(chat.apply_chat_template, str) else None
    template = _template(tokenizer, name)

    def apply(turns: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        def rendered(turns: list[dict[str, str]]) -> str:
            text: str = tokenizer.apply_chat_template(
                turns,
                chat_template=template,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
            return text

        try:
            return rendered(turns)
        except TemplateError:
            without_system = [turn for turn in turns if turn["role"] != "system"]
            text = rendered(without_system)
            if len(without_system) < len(turns):
                on_refused_system()
            return text

    return apply


def _template(tokenizer: Any, name: str | None) -> str:
    """Return the template of the tokenizer with this name; without a name the only one, or the default."""
    templates = getattr(tokenizer, "chat_template", None)
    if not templates:
        raise TaskError(
            "apply_chat_template: the model's tokenizer has no chat template: take a model that was trained on "
            "conversations, set tokenizer.chat_template, or score it without"
        )
    if isinstance(templates, str):
        if name is None:
            return templates
        raise TaskError(
            f"apply_chat_template {name!r}: the model's tokenizer has one chat template, without a name: give no name"
        )
    wanted = "default" if name is None else name
    if wanted not in templates:
        raise TaskError(
            f"apply_chat_template{'' if name is None else f' {name!r}'}: the model's tokenizer has the chat templates "
            f"{', '.join(sorted(templates))}: name one of them"
        )
    return str(templates[wanted])
