"""Tiny random models of every model type that transformers knows, and what the engine makes of each.

`python -m architectures` (with tests/ on the path) runs the survey; `survey.jsonl` holds its last result.
"""
