"""Components in memory as a model folder that other programs load too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from ...disk.sizes import parse_size
from ...disk.whole import cannot_write
from ...errors import UsageError
from ..checkpoint import index
from ..checkpoint.components import EXTRAS, KINDS, SLOTS, Kind
from ..checkpoint.from_memory import of_components
from ..checkpoint.layouts import Slot
from ..checkpoint.weight_files import is_of_save
from ..formats.source import MemorySource
from .diffusers import Layout, folder_files, json_text
from .files import OutputFile, write_files
from .safetensors import items_of

_PIPELINE = "StableDiffusionImg2ImgPipeline"


def save_components(
    folder: Path | str,
    components: Mapping[str, Any],
    *,
    requires_safety_checker: bool = False,
    native_size: int | None = None,
    variant: str | None = None,
    max_shard_size: int | str = "10GB",
    pipeline: str = _PIPELINE,
) -> Path:
    """Write the components that are not None under `folder`, and return it. Files of an earlier save are replaced.

    Networks have a config and tensors of ours; `tokenizer` gives the contents of its files (`folder_files`),
    `scheduler` its config; what else there is saves itself (`save_pretrained`). Of a single network just its own
    folder is written. Raises OutputError when something cannot be written, UsageError for what cannot be saved.
    """
    if variant is not None and not re.fullmatch(r"[\w-]+(\.[\w-]+)*", variant):
        raise UsageError(f"variant is {variant!r}; expected a short name such as 'fp16'")
    folder, limit = Path(folder), parse_size(max_shard_size, "max_shard_size")
    there = {name: component for name, component in components.items() if component is not None}
    extras = {name: there[name] for name in EXTRAS if name in there}
    for name, extra in extras.items():
        if not isinstance(extra, nn.Module) and not hasattr(extra, "save_pretrained"):
            raise UsageError(f"{name} is a {type(extra).__name__}, which cannot be saved; leave it out (None)")
    slots: list[Slot] = [slot for slot in SLOTS if slot in there]
    checkpoint = of_components(
        {slot: (there[slot].config, _tensors(there[slot])) for slot in slots},
        scheduler=there["scheduler"].settings.to_file() if "scheduler" in there else None,
        tokenizer=there["tokenizer"].folder_files() if "tokenizer" in there else None,
        native_size=native_size,
        path=folder,
    )
    layout = Layout(
        max_shard_size=limit,
        variant=variant,
        pipeline=pipeline,
        extras={name: _class_of(extra) for name, extra in extras.items()},
        requires_safety_checker=requires_safety_checker,
    )
    ours = {name: extra for name, extra in extras.items() if isinstance(extra, nn.Module) and _is_plain(extra)}
    files = folder_files(checkpoint, layout)
    files += [file for name, extra in ours.items() for file in _module_files(name, extra)]
    write_files(folder, files, replace=True)
    _remove_stale(folder, variant, {file.name for file in files})
    for name in extras.keys() - ours.keys():
        extras[name].save_pretrained(str(folder / name))
    return folder


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu() for name, tensor in cast("dict[str, Tensor]", module.state_dict()).items()}


def _is_plain(module: nn.Module) -> bool:
    """Whether a module is of ours: its config is a plain dict."""
    return isinstance(module.config, dict)


def _class_of(extra: Any) -> str:
    config: object = getattr(extra, "config", None)
    return str(cast("dict[str, Any]", config).get("_class_name", "")) if isinstance(config, dict) else ""


def _module_files(name: str, module: Any) -> list[OutputFile]:
    items = items_of(MemorySource(_tensors(module)))
    return [
        OutputFile(f"{name}/config.json", text=json_text(module.config)),
        OutputFile(f"{name}/model.safetensors", items),
    ]


def _remove_stale(folder: Path, variant: str | None, written: set[str]) -> None:
    """Shards and whole files of an earlier save would be found first, or be left lying around."""
    for place, kind in _places(folder, variant, written):
        for path in place.glob(f"{kind.stem}*") if place.is_dir() else ():
            if is_of_save(path.name, kind.stem, variant) and path.relative_to(folder).as_posix() not in written:
                try:
                    path.unlink()
                except OSError as problem:
                    raise cannot_write(path, problem) from None


def _places(folder: Path, variant: str | None, written: set[str]) -> list[tuple[Path, Kind]]:
    """The folders that hold weights of a save, with their kind. What else lies at the top of a whole model's folder, or
    in folders beside a single network, is somebody's own."""
    if index.FILE in written:
        return [(folder / kind.slot, kind) for kind in KINDS.values()]
    return [(folder, kind) for kind in KINDS.values() if any(is_of_save(n, kind.stem, variant) for n in written)]
