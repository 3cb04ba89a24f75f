"""Between two steps nobody waits for the device: nothing is read from it, nothing is sent to it.

The device is `meta`, whose tensors have shapes and no numbers: who asks it for one gets an error, and what goes to it
is counted. Numbers of a schedule stay on the CPU, and a device takes them with the work that it is given.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.tiny.configs import unet_config
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sdedit_cli import Scheduler
from sdedit_cli.configs.unet import UNetConfig
from sdedit_cli.engine.denoise import Loop, Segment, Track
from sdedit_cli.engine.families.sd import SD
from sdedit_cli.engine.masks import Blended, Held
from sdedit_cli.engine.sampling import grid_for
from sdedit_cli.nn import FreeU, UNet2DCondition
from sdedit_cli.noise.solvers import SOLVERS

# torchsde wants a generator of the device, and meta has none.
OWN_NOISE = {"dpmpp_sde"}


class Travels(TorchDispatchMode):
    """Calls by which numbers travel from the CPU to the device."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        copies = {"_to_copy", "copy_", "_copy_from"}
        if func.overloadpacket.__name__ in copies and _places(result) == {"meta"} and "cpu" in _places(args):
            self.seen.append(str(func))
        return result


def _places(value: Any) -> set[str]:
    return {leaf.device.type for leaf in tree_leaves(value) if isinstance(leaf, Tensor)}


def track_on_meta(unet: UNet2DCondition, sampler: str, freeu: FreeU | None = None, blend: Any = None) -> Track:
    scheduler = Scheduler.named(sampler)
    grid, start = grid_for(scheduler, 4, 1.0)
    x = torch.empty(1, 4, 16, 16, device="meta")
    text = torch.empty(2, 7, 32, device="meta")
    made = blend(scheduler, grid, x) if blend else None
    return Track(x, scheduler, grid, start, (Segment(SD.condition(unet, text, 5.0, freeu)),), 5.0, True, blend=made)


def travels(track: Track, unet: UNet2DCondition) -> list[str]:
    """Those of all steps behind the first, for which embeddings are made and rows gathered."""
    loop = Loop(SD, unet)
    running = loop.join(track)
    loop.tick()
    with Travels() as seen:
        while not running.finished:
            loop.tick()
    return seen.seen


@pytest.fixture(scope="module")
def unet() -> UNet2DCondition:
    with torch.device("meta"):
        return UNet2DCondition(UNetConfig.from_dict(unet_config("sd15", layers_per_block=1))).eval()


def test_the_device_refuses_and_counts_what_it_should() -> None:
    with Travels() as seen:
        x = torch.empty(3, device="meta") * torch.tensor(0.5)
        assert seen.seen == []
        torch.ones(3).to("meta")
        x.copy_(torch.ones(3))
    assert len(seen.seen) == 2
    with pytest.raises(RuntimeError):
        x.sum().item()


@pytest.mark.parametrize("sampler", sorted(set(SOLVERS) - OWN_NOISE))
def test_no_sampler_waits_for_the_device(unet: UNet2DCondition, sampler: str) -> None:
    assert travels(track_on_meta(unet, sampler), unet) == []


def test_neither_freeu_nor_masks_wait_for_the_device(unet: UNet2DCondition) -> None:
    def held(scheduler: Scheduler, grid: Any, x: Tensor) -> Held:
        return Held(scheduler, grid, x, x, torch.empty(16, 16, device="meta"), last=100)

    def blended(scheduler: Scheduler, grid: Any, x: Tensor) -> Blended:
        return Blended(scheduler, grid, x, torch.empty(16, 16, device="meta"), None)

    assert travels(track_on_meta(unet, "ddim", FreeU(0.9, 0.2, 1.2, 1.4)), unet) == []
    for sampler in ("ddim", "euler", "dpmpp_2m"):
        for blend in (held, blended):
            assert travels(track_on_meta(unet, sampler, blend=blend), unet) == []
