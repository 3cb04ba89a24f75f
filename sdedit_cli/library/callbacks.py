"""What a caller's function sees and changes between two steps, and what the pipeline that it is given may have changed.

B pictures, R rows (2 B with guidance, the negative ones first), T tokens, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from ..engine.denoise import Running
from ..engine.engine import Engine
from ..errors import UsageError, WrongTypeError
from ..nn import FreeU, ImageSource
from .arguments import CALLBACK_TENSORS, check_callback_tensors

Tensors = Mapping[str, "Tensor | None"]


def shown_tensors(running: Running, names: tuple[str, ...]) -> Tensors:
    """What the callback asked for."""
    text_RTC = running.conditioning.text_RTC
    negative_BTC = text_RTC[: len(running.x_BCHW)] if running.guided else None
    known: dict[str, Tensor | None] = dict(zip(CALLBACK_TENSORS, (running.x_BCHW, text_RTC, negative_BTC), strict=True))
    return {name: known[name] for name in names}


def steer(engine: Engine, running: Running, freeu: FreeU | None, images: tuple[ImageSource, ...]) -> None:
    """Lets the run go on with the weights as they are now, with this FreeU and these image prompts.

    Keys, values and time embeddings of the steps to come were made by the weights as they were.
    """
    old = running.conditioning
    old = replace(old, freeu=freeu, context=replace(old.context, images=images))
    running.conditioning = engine.reconditioned(old, old.text_RTC)


def take_over(
    engine: Engine, running: Running, shown: Tensors, returned: Mapping[str, Any], guided: bool, scale: float
) -> None:
    """Lets the run go on with what the callback returned, under the guidance that it left.

    Raises UsageError for other names than were offered, and for tensors whose rows do not fit, WrongTypeError for what
    is no tensor.
    """
    if not isinstance(cast("object", returned), Mapping):
        raise WrongTypeError(f"the callback returned a {type(returned).__name__}; expected a dict of tensors")
    check_callback_tensors(list(returned), returned=True)
    count, text_RTC = len(running.x_BCHW), running.conditioning.text_RTC
    latents = _like(running.x_BCHW, returned.get("latents", running.x_BCHW), "latents")
    if latents.shape != running.x_BCHW.shape:
        raise UsageError(
            f"the callback returned latents {tuple(latents.shape)}; expected {tuple(running.x_BCHW.shape)}"
        )
    embeds = _like(text_RTC, returned.get("prompt_embeds", text_RTC), "prompt_embeds")
    negative = returned.get("negative_prompt_embeds")
    # The one that was shown is a part of the prompt embeddings, and says nothing new.
    if guided and negative is not None and negative is not shown.get("negative_prompt_embeds"):
        embeds = torch.cat([_like(text_RTC, negative, "negative_prompt_embeds"), embeds[-count:]])
    rows = count * (2 if guided else 1)
    if len(embeds) != rows:
        raise UsageError(
            f"after the callback there are {len(embeds)} rows of prompt embeddings for {count} pictures "
            f"{'with' if guided else 'without'} guidance; return prompt_embeds with {rows}"
        )
    running.x_BCHW, running.guided, running.guidance_scale = latents, guided, scale
    # Tensors may have been changed in place, which only those who saw them can do.
    if "prompt_embeds" in shown or "negative_prompt_embeds" in shown or embeds is not text_RTC:
        running.conditioning = engine.reconditioned(running.conditioning, embeds)


def _like(old: Tensor, value: object, name: str) -> Tensor:
    """The tensor that a callback returned, in the precision and on the device of the one in its place."""
    if not isinstance(value, Tensor):
        raise WrongTypeError(f"the callback returned a {type(value).__name__} as {name}; expected a tensor")
    return value.to(old.device, old.dtype)
