"""Which checkpoint `-m` means: a path, a name in the model folders, a place on the Hub, or the built-in model."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..batch.request import Model
from ..disk.checks import endless_or_pipe
from ..errors import ModelError, did_you_mean, shortened
from ..options import BUILT_IN_NAME
from ..presets import MODELS_VARIABLE, expanded

_FILES = (".safetensors", ".ckpt")
WEIGHTS = (*_FILES, ".pt", ".bin", ".pth")
PARTS = ("vae", "tiny_vae", "upscaler")
"""Options that name a part of a model, which is found without the ending of its file, as a model is."""
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def fetched(model: Model, download: bool, variant: str | None = None) -> Path | None:
    """The model's path, from the Hub's cache where it is there, from the network only with `download`: of a folder
    there the weights of `variant` where it has them.

    Raises ModelError when it can be had from neither.
    """
    if model.hub is None:
        return model.path
    from ..weights.hub import resolve

    return resolve(model.hub, local_files_only=not download, variant=variant)


def find_model(wanted: str | None, folders: Sequence[Path]) -> Model:
    """The checkpoint that `wanted` names. Raises ModelError, saying where it was looked for."""
    if wanted is None or wanted == BUILT_IN_NAME:
        return Model(BUILT_IN_NAME, None)
    path = expanded(wanted)
    if is_there(path, f"-m {wanted}"):
        check_readable(path, f"-m {wanted}")
        return Model(_name(path.absolute()), path)
    known, unreadable = _known(folders)
    if wanted in known:
        return Model(wanted, known[wanted])
    named = completed(path, f"-m {wanted}")
    if named is not None:
        return Model(_name(named), named)
    if "://" in wanted:
        return Model(_name(Path(wanted.rpartition("/")[2])), None, wanted)
    if _HUB_ID.fullmatch(wanted) and not wanted.startswith(".") and path.suffix not in _FILES:
        return Model(wanted, None, wanted)
    shown = [f"{folder}{' (cannot be read)' if folder in unreadable else ''}" for folder in folders]
    places = ", ".join(shown) or f"none are set; name them in ${MODELS_VARIABLE}"
    near = did_you_mean(wanted, list(known))
    hint = f"; check ${MODELS_VARIABLE} and the permissions" if unreadable else ""
    raise ModelError(
        f"-m {shortened(wanted)}: no such path, and no model of that name{near} (model folders: {places}{hint})"
    )


def completed(path: Path, label: str) -> Path | None:
    """What is at a path, or the weights whose name it is without the ending; None for neither.

    Raises ModelError, called `label`, when that may not be known.
    """
    return next((file for end in ("", *WEIGHTS) if is_there(file := Path(f"{path}{end}"), label)), None)


def is_there(path: Path, label: str) -> bool:
    """Whether something is at `path`. Raises ModelError, called `label`, when that may not be known."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError as problem:
        if problem.errno == errno.ENAMETOOLONG:
            return False
        raise ModelError(f"{shortened(label)}: cannot be read ({problem.strerror}); check the permissions") from None
    return True


@contextmanager
def readable(name: str) -> Generator[None, None, None]:
    """Within it, a file of the model `name` that cannot be read is a ModelError."""
    try:
        yield
    except OSError as problem:
        file = shortened(problem.filename or name)
        raise ModelError(f"{file}: cannot be read ({problem.strerror or problem})") from None


def check_readable(path: Path, label: str) -> None:
    """Raises ModelError when the file or folder at `path` cannot be opened, is a pipe, or could be read for ever."""
    try:
        if words := endless_or_pipe(path.stat(), path):
            raise ModelError(f"{shortened(label)}: is {words}; expected a file or a folder")
        if path.is_dir():
            os.listdir(path)
            (path / "model_index.json").is_file()
        elif path.is_file():
            path.open("rb").close()
    except OSError as problem:
        what = "folder" if path.is_dir() else "file"
        raise ModelError(
            f"{shortened(label)}: the {what} cannot be read ({problem.strerror}); check its permissions"
        ) from None


def model_names(folders: Sequence[Path]) -> list[str]:
    """The names of all checkpoints in the model folders."""
    return sorted(_known(folders)[0])


def _known(folders: Sequence[Path]) -> tuple[dict[str, Path], list[Path]]:
    """The checkpoints in the folders by name, and the folders that cannot be read."""
    found: dict[str, Path] = {}
    unreadable: list[Path] = []
    for folder in folders:
        try:
            paths = sorted(folder.iterdir()) if folder.is_dir() else []
        except OSError:
            unreadable.append(folder)
            continue
        for path in paths:
            if path.suffix in _FILES or _is_model_folder(path):
                found.setdefault(_name(path), path)
                found.setdefault(path.name, path)
    return found, unreadable


def _is_model_folder(path: Path) -> bool:
    try:
        return (path / "model_index.json").is_file()
    except OSError:
        return False  # a folder that may not be entered gives no model


def _name(path: Path) -> str:
    return path.stem if path.suffix in _FILES else path.name
