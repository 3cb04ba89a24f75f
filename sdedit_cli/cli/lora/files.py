"""What the commands of `sdedit lora` share: reading adapters that fit their model, and writing one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...disk.sizes import size_text
from ...errors import ModelError, UsageError
from ...options.adapters import LoraFile
from ...signals import check, settle
from ..file_commands import check_source, check_target
from ..render import plain

if TYPE_CHECKING:
    import torch

    from ...adapters.architecture import Architecture
    from ...adapters.lora import Adapter
    from ...adapters.set import AdapterSet
    from ...adapters.write import Dialect


def begin(*sources: Path, target: Path) -> None:
    """Raises for sources that cannot be read and a target that is there already; clears what was left unfinished.
    Others who compute are minded from then on."""
    check()
    for path in sources:
        check_source(path)
    check_target(target)
    from ...runtime.cpu.neighbours import NEIGHBOURS

    NEIGHBOURS.mind()


def read(path: Path, architecture: Architecture, *, named: bool, partial: bool) -> Adapter:
    """The adapter at `path`, checked against the modules of the model, which was `named` or is the likeliest one.

    Raises ModelError for what does not fit.
    """
    from ...adapters.apply import check_fits
    from ...adapters.lora import UnfitError, read_adapter

    try:
        adapter = read_adapter(path, architecture.unet, architecture.text, partial=partial)
        check_fits(adapter, architecture.shape)
    except UnfitError as problem:
        if named:
            raise
        what, *advice = problem.args
        some = ", or take what fits with --partial" if any("--partial" in part for part in advice) else ""
        raise UnfitError(
            what,
            f"It was compared with {architecture.title}, the likeliest; "
            f"name the model that it is for with --model{some}.",
        ) from None
    if adapter.passed_over:
        click.echo(
            f"sdedit: warning: {plain(str(path))}: {len(adapter.passed_over)} keys fit nowhere and are left out",
            err=True,
        )
    if adapter.words:
        words = ", ".join(word.token for word in adapter.words)
        click.echo(
            f"sdedit: warning: {plain(str(path))}: brings words ({plain(words)}), which are not taken over", err=True
        )
    check()
    return adapter


def active(files: Sequence[LoraFile], architecture: Architecture, *, named: bool, partial: bool) -> AdapterSet:
    """The adapters of --lora at their strengths; see `read`.

    Raises ModelError for what does not fit, UsageError where none has any strength.
    """
    from ...engine.merging import at_work

    if architecture.unet is None:
        raise ModelError(f"{architecture.title}: has no UNet; give a whole model")
    adapters = [read(Path(file.path), architecture, named=named, partial=partial) for file in files]
    found = at_work(files, adapters, architecture.unet)
    if not found.patched():
        raise UsageError("all strengths are 0: nothing would be changed")
    return found


def save(
    adapter: Adapter, target: Path, to: Dialect, dtype: torch.dtype | None, architecture: Architecture
) -> list[str]:
    """Writes an adapter, and gives lines for people. Raises OutputError, ModelError for what cannot be held."""
    from ...adapters.write import peft_files, written
    from ...weights.formats.source import MemorySource
    from ...weights.write.diffusers import json_text
    from ...weights.write.files import OutputFile, write_files
    from ...weights.write.safetensors import item

    files: list[OutputFile] = []
    own = widest([adapter])
    for place, one in written(adapter, to, architecture.weight_shape).items():
        source = MemorySource({key: tensor.contiguous() for key, tensor in one.tensors.items()}, path=adapter.path)
        kinds = {key: _kept(key, tensor.dtype, dtype, own) for key, tensor in sorted(one.tensors.items())}
        items = tuple(item(key, source, key, kind) for key, kind in kinds.items())
        weights, config = peft_files(place) if one.config is not None else ("", "")
        files.append(OutputFile(weights, items, dict(sorted(one.metadata.items()))))
        if one.config is not None:
            files.append(OutputFile(config, text=json_text(one.config)))
    items = [entry for file in files for entry in file.items]
    write_files(target, files, lambda _: check(), placed=settle)
    counts = sorted(Counter(slot for slot, _ in adapter.patches).items(), reverse=True)
    parts = ", ".join(f"{count} modules of the {slot.replace('_', ' ')}" for slot, count in counts)
    return [
        f"{adapter.path} -> {target} ({to})",
        f"{architecture.title}: {parts}; {len(items)} tensors, {size_text(sum(entry.nbytes for entry in items))}",
    ]


def _kept(key: str, stored: torch.dtype, asked: torch.dtype | None, own: torch.dtype) -> torch.dtype | None:
    """The precision to write a tensor in; None for its own, and `own` for what was made in float32 of an adapter's.

    A number that divides and multiplies is kept as it is.
    """
    import torch

    from ...adapters.kinds.leaves import for_new
    from ...weights.formats.safetensors import TAGS

    wanted = None if key.endswith(".alpha") else asked or (own if stored == torch.float32 else None)
    return wanted or (None if stored in TAGS.values() else for_new(stored))


def widest(adapters: Iterable[Adapter]) -> torch.dtype:
    """The precision that holds what is made of the numbers of all these adapters."""
    import torch

    from ...adapters.kinds.leaves import for_new

    leaves = [pair for adapter in adapters for patch in adapter.patches.values() for pair in patch.leaves.items()]
    kinds = {tensor.dtype for leaf, tensor in leaves if leaf != "alpha" and tensor.is_floating_point()}
    found = next(iter(kinds)) if len(kinds) == 1 else torch.float32
    return torch.float32 if found == torch.float64 else for_new(found)
