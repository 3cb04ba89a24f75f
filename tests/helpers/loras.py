"""Small random LoRAs of a tiny model in every dialect of names, and the weights that they lead to by the formula."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sdedit_cli.names.table import modules, origins
from sdedit_cli.names.text import clip_table
from sdedit_cli.names.unet import unet_table

Factors = dict[tuple[str, str], tuple[Tensor, Tensor, float]]
"""By slot and module: down, up, alpha."""
RANK = 4


def factors(
    pipe: Any, *, seed: int = 0, everything: bool = True, alpha: float = 2.0, differing: bool = False
) -> Factors:
    """Random factors for every linear layer and convolution of our pipeline, or for those of attention alone."""
    generator = torch.Generator().manual_seed(seed)
    found: Factors = {}
    for slot in ("unet", "text_encoder"):
        for name, module in getattr(pipe, slot).named_modules():
            fits = isinstance(module, (nn.Linear, nn.Conv2d)) and (everything or ".to_" in name or "_proj" in name)
            if not fits:
                continue
            out, *rest = module.weight.shape
            down = torch.randn(RANK, *rest, generator=generator) * 0.3
            up = torch.randn(out, RANK, *[1] * (len(rest) - 1), generator=generator) * 0.3
            found[slot, name] = down, up, alpha + (len(found) % 3 if differing else 0)
    return found


def merged(weight: Tensor, down: Tensor, up: Tensor, alpha: float, strength: float = 1.0) -> Tensor:
    """W + s alpha / r up down, in float32 with one rounding."""
    delta = (up.flatten(1) @ down.flatten(1)).reshape(weight.shape) * (alpha / RANK)
    return (weight.float() + strength * delta).to(weight.dtype)


def _flat(name: str) -> str:
    return name.replace(".", "_")


def kohya(slot: str, name: str) -> str:
    return f"lora_{'unet' if slot == 'unet' else 'te'}_{_flat(name)}"


def original_names(pipe: Any) -> dict[str, str]:
    """Our names of the UNet's modules -> those of the original files."""
    table = unet_table(pipe.unet.config)
    weights = {f"{name}.weight" for name in modules(table)}
    found = origins(table, weights, to="foreign")
    return {o.sources[0].removesuffix(".weight"): name.removesuffix(".weight") for name, o in found.items()}


def _factors_as(down: str, up: str, alpha: str = ".alpha") -> Callable[[str, Tensor, Tensor, float], dict[str, Tensor]]:
    def named(module: str, down_RI: Tensor, up_OR: Tensor, number: float) -> dict[str, Tensor]:
        made = {module + down: down_RI, module + up: up_OR}
        return made | ({module + alpha: torch.tensor(number)} if alpha else {})

    return named


_KOHYA = _factors_as(".lora_down.weight", ".lora_up.weight")
_PEFT = _factors_as(".lora_A.weight", ".lora_B.weight", "")
_MIDDLE = _factors_as(".lora.down.weight", ".lora.up.weight", "")

Dialect = Callable[[Any, Factors], dict[str, Tensor]]


def _with(name: Callable[[str, str], str], leaves: Callable[..., dict[str, Tensor]]) -> Dialect:
    def write(_pipe: Any, of: Factors) -> dict[str, Tensor]:
        made: dict[str, Tensor] = {}
        for (slot, module), own in of.items():
            made |= leaves(name(slot, module), *own)
        return made

    return write


def _original(pipe: Any, of: Factors) -> dict[str, Tensor]:
    names = original_names(pipe)
    made: dict[str, Tensor] = {}
    for (slot, module), own in of.items():
        made |= _KOHYA(kohya(slot, names[module] if slot == "unet" else module), *own)
    return made


def _comfy(pipe: Any, of: Factors) -> dict[str, Tensor]:
    names = original_names(pipe)
    made: dict[str, Tensor] = {}
    for (slot, module), own in of.items():
        place = f"diffusion_model.{names[module]}" if slot == "unet" else f"text_encoders.clip_l.transformer.{module}"
        made |= _KOHYA(place, *own)
    return made


def _omi(pipe: Any, of: Factors) -> dict[str, Tensor]:
    """Where a level has no attention, its upsampler stands where one of a level with attention would."""
    names = original_names(pipe)
    made: dict[str, Tensor] = {}
    for (slot, module), own in of.items():
        place = f"clip_l.{module}"
        if slot == "unet":
            place = f"unet.{names[module]}"
            place = place.replace(".1.conv", ".2.conv") if "upsamplers" in module else place
        made |= _KOHYA(place, *own)
    return made


def _bare(slot: str, module: str) -> str:
    return module if slot == "unet" else module.removeprefix("text_model.")


# name -> how a file of it is written; those without an alpha mean alpha = rank
DIALECTS: Mapping[str, Dialect] = {
    "kohya": _with(kohya, _KOHYA),
    "kohya, te1": _with(lambda s, m: kohya(s, m).replace("lora_te_", "lora_te1_"), _KOHYA),
    "kohya, original blocks": _original,
    "kohya, text without text_model": _with(lambda s, m: kohya(s, _bare(s, m)), _KOHYA),
    "lycoris": _with(lambda _, m: f"lycoris_{_flat(m)}", _KOHYA),
    "diffusers, PEFT": _with(lambda s, m: f"{s}.{_bare(s, m)}", _PEFT),
    "diffusers, PEFT, text_model": _with(lambda s, m: f"{s}.{m}", _PEFT),
    "PEFT": _with(lambda s, m: f"base_model.model.{m}", _PEFT),
    "PEFT, named": _with(
        lambda s, m: f"{s}.base_model.model.{m}", _factors_as(".lora_A.mine.weight", ".lora_B.mine.weight", "")
    ),
    "diffusers, middle": _with(lambda s, m: f"{s}.{m}", _MIDDLE),
    "ComfyUI": _comfy,
    "OneTrainer": _with(lambda s, m: f"{s}.{m}" if s == "unet" else f"lora_te_{_flat(m)}", _KOHYA),
    "OneTrainer, OMI": _omi,
    "slider": _with(lambda s, m: f"diffusion_model_{_flat(m)}" if s == "unet" else kohya(s, m), _KOHYA),
}
WITHOUT_ALPHA = frozenset(name for name in DIALECTS if "PEFT" in name or "middle" in name)


def text_modules(pipe: Any) -> list[str]:
    return modules(clip_table(pipe.text_encoder.config))
