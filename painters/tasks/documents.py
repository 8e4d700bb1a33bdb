"""The documents of a task: in files beside its YAML, in a folder of one's own, or in a data set of the hub.

Files are read by `datasets`, as lm-eval has them read, so that numbers, dates and missing fields come out alike; but
into memory: no copy is left in the user's cache.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from painters.errors import class_and_first_line
from painters.tasks.errors import TaskError

__all__ = [
    "SPLITS",
    "SUFFIXES",
    "Files",
    "files_named",
    "is_documents",
    "reader",
    "source",
    "split_files",
    "with_documents",
]

SPLITS: Final = ("training_split", "validation_split", "test_split", "fewshot_split")
"""The fields of a task that name splits."""
BUILDERS: Final = {
    ".jsonl": "json",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".txt": "text",
}
SUFFIXES: Final = (*BUILDERS,)
"""The files of documents that are read."""
COMPRESSED: Final[Mapping[str, Callable[..., Any]]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
READ: Final = (
    "painters reads json, csv, parquet, arrow and text, each also compressed as .gz, .bz2 or .xz, and data sets that "
    "`datasets` saved to a folder"
)
# What `datasets` also reads, with code, pickles or downloads.
_OTHER_BUILDERS: Final = frozenset(
    "pandas spark generator sql xml hdf5 webdataset imagefolder audiofolder videofolder pdffolder niftifolder cache "
    "lance eval".split()
)
# Options of `datasets.load_dataset` itself: only those left are options of the reader of a format, such as `sep`.
_NOT_READING: Final = frozenset(
    "data_files data_dir split cache_dir features download_config download_mode verification_mode keep_in_memory "
    "save_infos revision token streaming num_proc storage_options trust_remote_code path name".split()
)


@dataclass(frozen=True, slots=True)
class Files:
    """Files of documents in one format.

    Attributes:
        builder: The name of the reader in `datasets`.
        paths: The files of each split.
        options: The options of the reader, such as the separator of columns.
    """

    builder: str
    paths: Mapping[str, Sequence[Path]]
    options: Mapping[str, Any] = field(default_factory=dict)


def reader(paths: Mapping[str, Path | Sequence[Path]], name: str) -> Callable[..., dict[str, Any]]:
    """Return a function that reads a task's documents, for `custom_dataset` in its configuration.

    Args:
        paths: The file or files of each split. What a file holds is known by its suffix, one of `SUFFIXES`.
        name: What error messages call the task.

    Returns:
        A function that returns a `datasets.Dataset` for each split. lm-eval calls it with the task's metadata. It
        raises `TaskError` if a file is missing or malformed.

    Examples:
        >>> from pathlib import Path
        >>> from painters import tasks
        >>> _ = Path("test.jsonl").write_text('{"question": "2 + 2?", "answer": "4"}')
        >>> splits = tasks.reader({"test": Path("test.jsonl")}, "sums")()
        >>> splits["test"][0]
        {'question': '2 + 2?', 'answer': '4'}
    """
    by_split = {split: [files] if isinstance(files, Path) else list(files) for split, files in paths.items()}
    return _reader([_files_of(split, files, name) for split, files in by_split.items()], name)


def split_files(folder: Path, splits: Sequence[str]) -> dict[str, list[Path]]:
    """Return the files of documents in `folder` of each of these splits that has some.

    The split `test` is in `test.jsonl`, with any of `SUFFIXES`, or in parts such as `test-00000-of-00002.parquet`; the
    files are in the folder itself or in `data/` in it, as on the hub.
    """
    found = [path for place in (folder, folder / "data") if place.is_dir() for path in sorted(place.iterdir())]
    kinds = list(BUILDERS)
    files = [path for path in found if path.is_file() and _suffix(path) in kinds]
    by_split: dict[str, list[Path]] = {}
    for split in dict.fromkeys(splits):
        whole = sorted((path for path in files if _stem(path) == split), key=lambda path: kinds.index(_suffix(path)))
        parts = [path for path in files if re.match(rf"{re.escape(split)}-\d", path.name)]
        if whole or parts:
            by_split[split] = whole[:1] or parts
    return by_split


def with_documents(fields: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the configuration of a task for lm-eval, with the documents that its fields name.

    The documents are read into memory when lm-eval builds the task. Its own way would look for files relative to the
    working directory, and would leave copies in the user's cache. A data set of the hub is left to lm-eval.

    Args:
        fields: The fields of the task.
        folder: The folder of its YAML.

    Returns:
        The configuration. Files are read by a function in `custom_dataset`.

    Raises:
        TaskError: The documents lie outside of the folder, or are of a kind that is not read.
    """
    config = {name: value for name, value in fields.items() if name not in ("tag", "group", "task_list")}
    read = source(config, folder)
    if read is not None:
        config.pop("dataset_kwargs", None)
        config["custom_dataset"] = _with_splits(read, config)
    return config


def _with_splits(read: Callable[..., dict[str, Any]], fields: Mapping[str, Any]) -> Callable[..., dict[str, Any]]:
    """Return `read`, which raises TaskError where the documents have no split of a name that the task gives."""
    named = {name: str(fields[name]) for name in SPLITS if fields.get(name)}

    def read_splits(**metadata: Any) -> dict[str, Any]:
        documents = read(**metadata)
        for name, split in named.items():
            if split not in documents:
                raise TaskError(
                    f"task {fields['task']!r}: {name} is {split!r}, and its documents are split into "
                    f"{', '.join(map(repr, documents))}"
                )
        return documents

    return read_splits


def source(fields: Mapping[str, Any], folder: Path) -> Callable[..., dict[str, Any]] | None:
    """Return the function that reads the documents that a task's fields name; None where they are on the hub.

    Raises TaskError as `with_documents` does.
    """
    name, path, options = str(fields["task"]), fields.get("dataset_path"), fields.get("dataset_kwargs") or {}
    if path is None and isinstance(options, dict) and options.get("data_files"):
        path = "json"
    if not isinstance(path, str) or not isinstance(options, dict):
        raise TaskError(
            f"task {name!r} names no documents: give dataset_path: json, and its files under dataset_kwargs: "
            f"data_files:; or a data set of the hub as dataset_path:"
        )
    if path in _OTHER_BUILDERS:
        raise TaskError(f"task {name!r}: documents in the format {path!r} are not read here. {READ}")
    if path in BUILDERS.values():
        if options.get("data_dir") and options.get("data_files") is None:
            return _folder_reader(_inside(folder, folder / str(options["data_dir"]), name), fields, name)
        reading = {option: value for option, value in options.items() if option not in _NOT_READING}
        return _reader([Files(path, files_named(fields, folder), reading)], name)
    if path.startswith((".", "/", "~")) or "\\" in path or (folder / path).is_dir():
        return _folder_reader(_inside(folder, folder / path, name), fields, name)
    return None


def _folder_reader(path: Path, fields: Mapping[str, Any], name: str) -> Callable[..., dict[str, Any]]:
    """Return the function that reads a folder: a data set that was saved, or one with files named by split."""
    if (path / "dataset_dict.json").is_file():
        return lambda **metadata: _saved(path, name)
    splits = [str(fields[split]) for split in SPLITS if fields.get(split)]
    if (path / "state.json").is_file():  # one split, which does not say which
        return lambda **metadata: dict.fromkeys(splits, _saved(path, name))
    files = split_files(path, splits)
    if not files:
        raise TaskError(
            f"task {name!r}: in {path} is no data set that `datasets` saved, and no {' or '.join(splits)} as "
            f"{', '.join(SUFFIXES)}"
        )
    return reader(files, name)


def _saved(path: Path, name: str) -> Any:
    """Return what `save_to_disk` wrote."""
    import datasets

    try:
        return datasets.load_from_disk(str(path), keep_in_memory=True)
    except Exception as error:  # pyarrow and datasets raise what they like
        raise TaskError(f"task {name!r}: {path.name} cannot be read: {class_and_first_line(error)}") from error


def files_named(fields: Mapping[str, Any], folder: Path) -> dict[str, list[Path]]:
    """Return the files of each split that a task names under `dataset_kwargs: data_files:`.

    Raises TaskError where one lies outside of `folder`, that of the task's YAML, or no file is named.
    """
    name, options = str(fields["task"]), fields.get("dataset_kwargs")
    named = options.get("data_files") if isinstance(options, dict) else None
    by_split = named if isinstance(named, dict) else {"train": named}  # as `datasets` calls the only split
    base = folder / str(options.get("data_dir") or "") if isinstance(options, dict) else folder
    paths: dict[str, list[Path]] = {}
    for split, entry in by_split.items():
        every = entry if isinstance(entry, list) else [entry]
        patterns = [pattern for pattern in every if isinstance(pattern, str) and pattern]
        if not patterns or len(patterns) < len(every):
            raise TaskError(
                f"task {name!r}: its documents are not named: give a file under dataset_kwargs: data_files:, a list of "
                f"files, or one of them for each split"
            )
        paths[str(split)] = [path for pattern in patterns for path in _matches(base, pattern, folder, name)]
    return paths


def _matches(base: Path, pattern: str, folder: Path, name: str) -> list[Path]:
    """Return the files that a name or pattern in `base` stands for; each must lie in `folder`."""
    if "://" in pattern:
        raise TaskError(f"task {name!r}: {pattern} is a URL: download it, and put the documents beside the task's YAML")
    whole = _inside(folder, base / pattern, name)
    if whole.is_file() or not any(sign in pattern for sign in "*?["):
        return [whole]
    found = sorted(path for path in base.glob(pattern) if path.is_file())
    if not found:
        raise TaskError(f"task {name!r}: no file beside its YAML is named like {pattern}")
    return [_inside(folder, path, name) for path in found]


def _inside(folder: Path, path: Path, name: str) -> Path:
    """Return `path`; raise TaskError if it is outside of `folder`, links resolved."""
    if not path.resolve().is_relative_to(folder.resolve()):
        raise TaskError(f"task {name!r}: {path} leaves the folder of its YAML: put the documents beside it")
    return path


def is_documents(path: Path) -> bool:
    """Return whether a file is one of documents, by its suffix."""
    return _suffix(path) in BUILDERS and path.is_file()


def _suffix(path: Path) -> str:
    """Return the suffix that says what a file holds, without that of its compression."""
    return Path(_uncompressed(path)).suffix.lower()


def _stem(path: Path) -> str:
    return Path(_uncompressed(path)).stem


def _uncompressed(path: Path) -> str:
    return path.stem if path.suffix.lower() in COMPRESSED else path.name


def _files_of(split: str, paths: Sequence[Path], name: str) -> Files:
    """Return the files of one split, whose format follows from their suffix."""
    suffixes = sorted({_suffix(path) for path in paths})
    if len(suffixes) != 1 or suffixes[0] not in BUILDERS:
        raise TaskError(
            f"task {name!r}: the documents of {split} are in files of the kind {' and '.join(suffixes) or 'none'}: "
            f"give one kind of {', '.join(SUFFIXES)}"
        )
    return Files(BUILDERS[suffixes[0]], {split: paths}, {"sep": "\t"} if suffixes[0] == ".tsv" else {})


def _reader(files: Sequence[Files], name: str) -> Callable[..., dict[str, Any]]:
    """Return the function that reads all these files."""

    def read(**metadata: Any) -> dict[str, Any]:
        return {split: documents for part in files for split, documents in _read(part, name).items()}

    return read


def _read(files: Files, name: str) -> dict[str, Any]:
    """Return a `datasets.Dataset` for each split."""
    import datasets

    for path in (path for paths in files.paths.values() for path in paths):
        if not path.is_file():
            missing = "that is a folder" if path.is_dir() else "that file is missing: write it, or reinstall painters"
            raise TaskError(f"task {name!r} needs {path.name} beside its YAML, and {missing}")
        if files.builder == "json":
            _check_json(path, name, whole="field" in files.options)
        elif files.builder in ("csv", "text") and not path.stat().st_size:
            raise TaskError(f"task {name!r}: {path.name} holds no documents")
    data_files = {split: [str(path.resolve()) for path in paths] for split, paths in files.paths.items()}
    shown = ", ".join(path.name for paths in files.paths.values() for path in paths)
    try:
        with tempfile.TemporaryDirectory(prefix="painters-documents-") as cache:
            loaded = datasets.load_dataset(
                files.builder, data_files=data_files, cache_dir=cache, keep_in_memory=True, **files.options
            )
    except Exception as error:  # pyarrow, pandas and datasets raise what they like
        cause = error.__cause__ or error
        raise TaskError(
            f"task {name!r}: {shown} cannot be read as {files.builder}: {class_and_first_line(cause)}"
        ) from error
    for split, documents in loaded.items():
        if not len(documents):
            raise TaskError(f"task {name!r}: {', '.join(path.name for path in files.paths[split])} holds no documents")
    return dict(loaded)


def _check_json(path: Path, name: str, *, whole: bool) -> None:
    """Raise TaskError at the line of a file that is not JSON, or that nests more than Python reads.

    `datasets` names neither the line nor the file, and a text that nests deeply enough ends the process.
    """
    try:
        with COMPRESSED.get(path.suffix.lower(), open)(path, "rt", encoding="utf-8") as file:
            text = str(file.read())
    except (OSError, EOFError, lzma.LZMAError, ValueError) as error:
        raise TaskError(f"task {name!r}: {path.name} cannot be read: {class_and_first_line(error)}") from error
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise TaskError(f"task {name!r}: {path.name} holds no documents")
    first = None
    if not whole:
        first = _first_bad_line(text)
        if first is None:
            return
    try:
        json.loads(text)  # an array, or an object, over several lines
    except (ValueError, RecursionError) as error:
        number, reason = first or (1, error)
        raise TaskError(f"task {name!r}: line {number} of {path.name} is not JSON ({reason})") from error


def _first_bad_line(text: str) -> tuple[int, Exception] | None:
    """Return the number and error of the first line that is not JSON by itself; None where all are."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                json.loads(line)
            except (ValueError, RecursionError) as error:
                return number, error
    return None
