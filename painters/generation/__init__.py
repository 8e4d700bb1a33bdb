"""Greedy decoding of many prompts with continuous batching, prefix caching and speculative decoding."""

from __future__ import annotations

from painters.generation.decoding import eos_tokens, greedy, is_supported

__all__ = ["eos_tokens", "greedy", "is_supported"]
