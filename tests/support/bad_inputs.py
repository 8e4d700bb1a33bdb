"""Folders and files that no command can take, as rows of tests name them."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

LLAMA = Path(__file__).parents[2] / "painters" / "nano" / "llama"
Prepare = Callable[[Path], object]


def text(content: str | bytes) -> Prepare:
    """A file with this in it."""
    data = content.encode() if isinstance(content, str) else content
    return lambda path: path.write_bytes(data)


def at(suffix: str, prepare: Prepare) -> Prepare:
    """The same, under a name with this suffix."""
    return lambda path: prepare(path.with_suffix(suffix))


def inside(name: str, prepare: Prepare) -> Prepare:
    """The same, in a folder."""

    def within(path: Path) -> None:
        path.mkdir()
        prepare(path / name)

    return within


def folder(path: Path) -> None:
    """An empty folder."""
    path.mkdir()


def full(path: Path) -> None:
    """A folder with something in it."""
    path.mkdir()
    (path / "thesis.tex").write_text("years of work")


def checkpoint(changed: Callable[[Path], object] | None = None, *, without: str = "", **config: Any) -> Prepare:
    """nano-llama's folder, then without some files, with another configuration, or changed otherwise."""

    def prepare(path: Path) -> None:
        shutil.copytree(LLAMA, path)
        for file in path.glob(without) if without else ():
            file.unlink()
        if config:
            read = json.loads((path / "config.json").read_text())
            (path / "config.json").write_text(json.dumps(read | config))
        if changed is not None:
            changed(path)

    return prepare


def cut_weights(path: Path) -> None:
    """The first kilobyte of the weights."""
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


def pickled_weights(path: Path) -> None:
    """Weights that only a pickle holds."""
    (path / "model.safetensors").unlink()
    (path / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": [0.0]}))


def fewer_weights(path: Path) -> None:
    """Weights of which a tensor is missing."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(path / "model.safetensors")
    del tensors["model.layers.3.mlp.up_proj.weight"]
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})


def broken_config(path: Path) -> None:
    """A configuration that is no JSON."""
    (path / "config.json").write_text('{"model_type": "llama", ')


EXPERIMENT = """\
title: A grid
models: [nano-llama]
tasks: [nano_winogrande]
variants: [{name: skip, start: [3]}]
protocol: {limit: 2}
"""


def experiment(old: str = "", new: str = "", more: str = "") -> Prepare:
    """An experiment with something replaced or added."""
    assert old in EXPERIMENT
    return text(EXPERIMENT.replace(old, new) + more)
