"""Networks with random weights on a device, made there; and steps of a guided picture by ours and the reference."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import count
from typing import Any

from ..common.models import configs
from ..common.programs import GUIDANCE, STEPS, latents, texts

Work = Callable[[], object]


def kind_of(given: argparse.Namespace) -> Any:
    """The precision of the check: half on a GPU, which a CPU is slow in."""
    import torch

    return torch.float16 if given.device.startswith("cuda") else torch.float32


def side_of(given: argparse.Namespace) -> int:
    """Pixels on a side."""
    return 64 if given.quick else 512


def unet_of(given: argparse.Namespace, device: str | None = None) -> Any:
    """Our UNet, not equipped for its device yet."""
    import torch

    from sdedit_cli.configs.unet import UNetConfig
    from sdedit_cli.nn import UNet2DCondition

    torch.manual_seed(0)
    with torch.device(device or given.device):
        unet = UNet2DCondition(UNetConfig.from_dict(configs(given.quick)["unet"])).eval()
    return unet.to(kind_of(given)).requires_grad_(False)


def same_in_reference(given: argparse.Namespace, unet: Any) -> Any:
    """The reference's UNet with the numbers of ours."""
    import torch
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        theirs = UNet2DConditionModel.from_config(configs(given.quick)["unet"])
    theirs = theirs.to_empty(device=given.device).to(kind_of(given)).eval()
    theirs.load_state_dict(unet.state_dict())
    return theirs


def our_step(given: argparse.Namespace, unet: Any, batch: int = 1, freeu: Any = None) -> Work:
    """A step of the engine's loop, the solver's part included."""
    from sdedit_cli import Scheduler
    from sdedit_cli.engine.denoise import Loop, Segment, Track
    from sdedit_cli.engine.families.sd import SD

    scheduler = Scheduler.named("ddim")
    x = latents(batch, side_of(given), kind_of(given)).to(given.device)
    text = texts(2 * batch, unet.config.cross_attention_dim, kind_of(given)).to(given.device)
    segments = (Segment(SD.condition(unet, text, GUIDANCE, freeu)),)
    loop = Loop(SD, unet)
    loop.join(Track(x, scheduler, scheduler.grid(STEPS), 0, segments, guidance_scale=GUIDANCE, guided=True))
    return loop.tick


def their_step(given: argparse.Namespace, unet: Any, batch: int = 1) -> Work:
    """What the reference's pipeline does between two timesteps."""
    import torch
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler.from_config(configs(given.quick)["scheduler"])
    scheduler.set_timesteps(STEPS, device=given.device)
    x = latents(batch, side_of(given), kind_of(given)).to(given.device)
    text = texts(2 * batch, unet.config.cross_attention_dim, kind_of(given)).to(given.device)
    steps = iter(count())

    def step() -> None:
        nonlocal x
        t = scheduler.timesteps[next(steps)]
        rows = scheduler.scale_model_input(torch.cat([x, x]), t)
        low, high = unet(rows, t, encoder_hidden_states=text, return_dict=False)[0].chunk(2)
        x = scheduler.step(low + GUIDANCE * (high - low), t, x, return_dict=False)[0]

    return torch.no_grad()(step)


def flops(given: argparse.Namespace, batch: int = 1) -> float:
    """Of a guided step: products, convolutions and attention, a multiplication and an addition as two."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    unet, side = unet_of(given, "meta"), side_of(given) // 8
    like = {"device": "meta", "dtype": kind_of(given)}
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        context = unet.context(torch.empty(2 * batch, 77, unet.config.cross_attention_dim, **like))
        before = counter.get_total_flops()  # of keys and values, which are made once
        emb = torch.empty(2 * batch, unet.config.time_dim, **like)
        unet(torch.empty(2 * batch, 4, side, side, **like), emb, context)
        return float(counter.get_total_flops() - before)
