"""Adapters summed and brought to a rank, written, and what was lost by it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..progress import each
from .files import save, widest
from .lost import Loss, tell

if TYPE_CHECKING:
    import torch

    from ...adapters.architecture import Architecture
    from ...adapters.lowrank import Keep
    from ...adapters.set import AdapterSet


def combine_and_save(
    wanted: AdapterSet,
    keep: Keep | None,
    architecture: Architecture,
    target: Path,
    to: Any,
    dtype: torch.dtype | None,
    *,
    as_json: bool,
    verbose: bool,
) -> None:
    """Writes the sum of the active adapters as one. Raises ModelError for kinds that no LoRA can hold."""
    from ...adapters.combine import combined
    from ...adapters.lora import Adapter

    adapters = list(wanted.adapters.values())
    made = each(combined(wanted, keep, architecture.weight_shape), len(wanted.patched()), adapters[0].path.name)
    patches = {one.module: one.patch for one in made if one.patch.leaves}
    path = adapters[0].path
    adapter = Adapter(path, patches, 0, metadata=_metadata(wanted, keep))
    lines = save(adapter, target, to, dtype or widest(adapters), architecture)
    losses = [Loss.of(one.module, one.cut) for one in made if one.cut is not None]
    tell(losses, lines, as_json=as_json, verbose=verbose)


def _metadata(wanted: AdapterSet, keep: Keep | None) -> dict[str, str]:
    """What was known of the only one, or what several agree on."""
    first, *others = (dict(adapter.metadata) for adapter in wanted.adapters.values())
    kept = {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}
    if others or keep:
        kept.update((key, "Dynamic") for key in ("ss_network_dim", "ss_network_alpha") if key in kept)
    return kept
