"""`sdedit lora extract`: what a tuned model adds to its base, as a LoRA."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...errors import ModelError, listed
from ..file_commands import DEBUG, PATH
from ..flags import options
from .options import AS_JSON, CONFIG, DTYPE, KEEP, TO, VERBOSE, check_name, keep_of, precision

if TYPE_CHECKING:
    from ...weights.checkpoint import Checkpoint
    from ...weights.checkpoint.layouts import Slot
    from ...weights.formats.source import WeightSource

_CHANGED: tuple[Slot, ...] = ("unet", "text_encoder")


@click.command("extract", short_help="Make a LoRA of the difference of two checkpoints.")
@click.argument("tuned", type=PATH)
@click.argument("base", type=PATH)
@click.argument("dst", type=PATH)
@options(KEEP, TO, DTYPE, CONFIG, AS_JSON, VERBOSE, DEBUG)
def extract(
    tuned: Path,
    base: Path,
    dst: Path,
    rank: int | None,
    energy: float | None,
    to: Any,
    dtype: str | None,
    config: Path | None,
    as_json: bool,
    verbose: bool,
) -> None:
    """Write what TUNED adds to BASE as the LoRA DST, in the rank N or the smallest that keeps the energy F.

    Both are checkpoints of one family in any layout. The linear layers and convolutions of UNet and text encoder are
    compared; each is the nearest of its rank, by its singular values, and how far that is, is told. Modules that did
    not change are left out; biases and norms that did are counted, as a LoRA does not hold them. DST must not exist.
    """
    from ...adapters.extract import check_same_shapes, extracted, unheld
    from ...adapters.kinds.leaves import for_new
    from ...adapters.lora import Adapter
    from ...weights.checkpoint import open_checkpoint
    from ...weights.load.check import check_complete
    from ..progress import each
    from .architectures import architecture_in, checkpoint_at
    from .files import begin, save
    from .lost import Loss, tell

    keep = keep_of(rank, energy)
    check_name(dst, to)
    tuned, base = checkpoint_at(tuned), checkpoint_at(base)
    begin(tuned, base, target=dst)
    after, before = (open_checkpoint(path, config=config) for path in (tuned, base))
    for checkpoint in (after, before):
        check_complete(checkpoint)
    slots = _compared(after, before)
    architecture = architecture_in(before)
    modules = [(slot, name) for slot in slots for name in architecture.modules(slot)]
    new, old = _tensors(after, slots), _tensors(before, slots)
    check_same_shapes(new, old)
    made = each(extracted(new, old, modules, keep), len(modules), tuned.name)
    patches = {one.module: one.patch for one in made if one.patch is not None}
    others = unheld(new, old, modules)
    if not patches:
        raise ModelError(f"{after.path}: has the same weights as {before.path}: there is nothing to extract")
    stored = new[slots[0]]
    kind = precision(dtype) or for_new(stored.dtype(stored.names()[0]))
    lines = save(Adapter(after.path, patches, 0), dst, to, kind, architecture)
    lines.append(f"{len(modules) - len(patches)} of {len(modules)} modules did not change and are left out")
    if others:
        lines.append(f"{len(others)} biases, norms or tables changed, which a LoRA does not hold: {listed(others, 2)}")
    losses = [Loss.of(one.module, one.cut) for one in made if one.cut is not None]
    tell(losses, lines, as_json=as_json, verbose=verbose, unchanged=len(modules) - len(patches), not_held=others)


def _tensors(checkpoint: Checkpoint, slots: list[Slot]) -> dict[str, WeightSource]:
    return {slot: checkpoint.components[slot].tensors for slot in slots}


def _compared(tuned: Checkpoint, base: Checkpoint) -> list[Slot]:
    """The components that both have. Raises ModelError for models of two families, or with nothing to compare."""
    if not base.family.runs and base.tells_family:
        raise ModelError(f"{base.path}: is {base.family.title}; only 1.x and 2.x are taken apart so far")
    if tuned.family is not base.family:
        raise ModelError(
            f"{tuned.path}: is {tuned.family.title}, and {base.path} is {base.family.title}; "
            "give the model that it was tuned from"
        )
    slots: list[Slot] = [slot for slot in _CHANGED if slot in tuned.components and slot in base.components]
    if not slots:
        raise ModelError(f"{tuned.path}: has neither UNet nor text encoder in common with {base.path}")
    return slots
