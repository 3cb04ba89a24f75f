"""Which file of a component's folder holds its weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..errors import ModelError

# The libraries that wrote these folders each had a name for the file; what is inside is found out by opening it.
_TORCH_STEMS = (
    ("diffusion_pytorch_model", "safetensors"),
    ("model", "safetensors"),
    ("diffusion_pytorch_model", "bin"),
    ("pytorch_model", "bin"),
)
_FLAX_NAMES = ("diffusion_flax_model.msgpack", "flax_model.msgpack")


def find_weights(folder: Path, variant: str | None = None, use_safetensors: bool | None = None) -> Path:
    """The weights file or shard index of a component's folder.

    Safetensors before .bin before Flax unless `use_safetensors` says which; of a `variant` if there is one, else the
    plain file; without a `variant`, the plain file, else the only variant that is there. Raises ModelError with what
    was looked for.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder; a model in diffusers layout keeps a component there")
    kinds = {None: ("safetensors", "bin", "msgpack"), True: ("safetensors",), False: ("bin", "msgpack")}
    for kind in kinds[use_safetensors]:
        for candidate in _candidates(folder, kind, variant):
            if candidate.is_file():
                return candidate
    wanted = " or ".join(f".{kind}" for kind in kinds[use_safetensors])
    found = ", ".join(sorted(path.name for path in folder.iterdir())[:6]) or "nothing"
    raise ModelError(f"{folder}: has no weights in {wanted} files (found: {found}); download the model again")


def _candidates(folder: Path, kind: str, variant: str | None) -> Iterator[Path]:
    if kind == "msgpack":
        yield from (folder / name for name in _FLAX_NAMES)
        return
    stems = [stem for stem, suffix in _TORCH_STEMS if suffix == kind]
    for tag in (variant, None) if variant else (None,):
        for stem in stems:
            yield from (folder / name for name in file_names(stem, kind, tag))
    if variant is None:
        for stem in stems:
            files = sorted(folder.glob(f"{stem}.*.{kind}")) + sorted(folder.glob(f"{stem}.{kind}.index.*.json"))
            whole = [path for path in files if "-of-" not in path.name]
            yield from whole if len(whole) == 1 else ()


def file_names(stem: str, kind: str, variant: str | None) -> tuple[str, ...]:
    """The names that a file, or its shard index, of this variant may have. Writers of several ages disagree."""
    if variant is None:
        return f"{stem}.{kind}", f"{stem}.{kind}.index.json"
    return (
        f"{stem}.{variant}.{kind}",
        f"{stem}.{kind}.index.{variant}.json",
        f"{stem}.{variant}.{kind}.index.json",
        f"{stem}.{kind}.{variant}.index.json",
    )


def is_variant(path: Path, variant: str) -> bool:
    return f".{variant}." in path.name
