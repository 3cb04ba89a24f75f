"""The first ranks of an adapter alone, as the `dyn` of web UIs asks for (files of DyLoRA are trained for that)."""

from __future__ import annotations

from dataclasses import replace

import torch

from .kinds.leaves import scale_of
from .lora import Adapter, Patch


def first_ranks(adapter: Adapter, count: int) -> Adapter:
    """The adapter with `count` ranks at most of each pair of factors, scaled as the whole pair is.

    Kinds other than a plain pair, and those with a factor between, stay whole, as in web UIs.
    """
    return replace(adapter, patches={module: _cut(patch, count) for module, patch in adapter.patches.items()})


def _cut(patch: Patch, count: int) -> Patch:
    leaves = patch.leaves
    if not {"up", "down"} <= leaves.keys() or "mid" in leaves:
        return patch
    rank = leaves["down"].shape[0]
    scale = torch.as_tensor(scale_of(leaves, rank, patch.scaling), dtype=torch.float32)
    cut = {"down": leaves["down"][:count], "up": leaves["up"][:, :count], "scale": scale}
    return replace(patch, leaves={**leaves, **cut})
