"""FAMILIES: one row for each kind of model that Stable Diffusion's files hold: all that no shape of a tensor tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import ModelError
from ...names import ldm
from ...text.vocabulary import EOS

OPENCLIP = "openclip"
"""The key of `Family.prefixes` for a first text encoder in OpenCLIP's naming."""
# OpenCLIP was trained with prompts filled up with this token; CLIP with its end token.
_OPENCLIP_PAD = "!"

_TRAINING: Mapping[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "trained_betas": None,
}
_EULER = {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "leading", "interpolation_type": "linear"}
_NO_CHECKER: Mapping[str, Any] = {"safety_checker": [None, None], "requires_safety_checker": False}


@dataclass(frozen=True, slots=True)
class Traits:
    """What tells families apart, from the shapes of a file or the configs of a folder.

    `text` is the naming of the first text encoder ('' without one), `width` that of the text that the UNet attends to
    (0 without a UNet), `linear` whether its attention is entered through a linear layer, `added` whether it takes
    more than a text and a time.
    """

    text: str = ""
    has_second: bool = False
    width: int = 0
    linear: bool = False
    added: bool = False


@dataclass(frozen=True, slots=True)
class Family:
    """What all models of a family share.

    `prefixes`: what LDM files put before a component's names. `padding`: the token that fills up the prompts of each
    text encoder. `sampler`: what the reference model's scheduler has besides the training's noise schedule. `index`:
    what model_index.json says besides the components. `runs`: whether this program edits with it.
    """

    name: str
    title: str
    pipeline: str
    heads: Callable[[int], int]
    prefixes: Mapping[str, str]
    padding: Mapping[str, str]
    sampler: Mapping[str, Any]
    prediction_type: str = "epsilon"
    predicts_both: bool = False
    scaling_factor: float = 0.18215
    sample_size: int = 64
    upcast_attention: bool = False
    projection_dim: int = 768
    index: Mapping[str, Any] = field(default_factory=lambda: _NO_CHECKER)
    runs: bool = True

    def prefix(self, slot: str, openclip: bool = False) -> str:
        """What LDM files of this family put before the names of a component."""
        return self.prefixes.get(OPENCLIP if openclip and slot == "text_encoder" else slot) or self.prefixes[slot]

    def scheduler(self, prediction_type: str | None = None) -> dict[str, Any]:
        """The scheduler config of the reference model."""
        return {**self.sampler, **_TRAINING, "prediction_type": prediction_type or self.prediction_type}


def _heads_of_64(channels: int) -> int:
    return max(1, channels // 64)


_PREFIXES = {"unet": ldm.UNET, "vae": ldm.VAE, "text_encoder": ldm.CLIP, OPENCLIP: ldm.OPENCLIP}
_XL_PREFIXES = {
    "unet": ldm.UNET,
    "vae": ldm.VAE,
    "text_encoder": ldm.SDXL_CLIP,
    "text_encoder_2": ldm.SDXL_OPENCLIP,
}

SD1 = Family(
    "sd1",
    "Stable Diffusion 1.x",
    "StableDiffusionPipeline",
    heads=lambda _: 8,
    prefixes=_PREFIXES,
    padding={"text_encoder": EOS},
    sampler={"_class_name": "PNDMScheduler", "skip_prk_steps": True, "clip_sample": False},
)
SD2 = Family(
    "sd2",
    "Stable Diffusion 2.x",
    "StableDiffusionPipeline",
    heads=_heads_of_64,
    prefixes=_PREFIXES,
    padding={"text_encoder": _OPENCLIP_PAD},
    sampler={"_class_name": "DDIMScheduler", "clip_sample": False},
    # Of a file that says nothing: the reference model of the family, 2.1, predicts v.
    prediction_type="v_prediction",
    predicts_both=True,
    sample_size=96,
    upcast_attention=True,
    projection_dim=512,
)
SDXL = Family(
    "sdxl",
    "Stable Diffusion XL base",
    "StableDiffusionXLPipeline",
    heads=_heads_of_64,
    prefixes=_XL_PREFIXES,
    padding={"text_encoder": EOS, "text_encoder_2": _OPENCLIP_PAD},
    sampler=_EULER,
    scaling_factor=0.13025,
    sample_size=128,
    index={"force_zeros_for_empty_prompt": True},
    runs=False,
)
SDXL_REFINER = Family(
    "sdxl_refiner",
    "Stable Diffusion XL refiner",
    "StableDiffusionXLImg2ImgPipeline",
    heads=_heads_of_64,
    prefixes={**_XL_PREFIXES, "text_encoder_2": ldm.REFINER_OPENCLIP},
    padding={"text_encoder": EOS, "text_encoder_2": _OPENCLIP_PAD},
    sampler=_EULER,
    scaling_factor=0.13025,
    sample_size=128,
    index={"force_zeros_for_empty_prompt": False, "requires_aesthetics_score": True},
    runs=False,
)
FAMILIES: dict[str, Family] = {family.name: family for family in (SD1, SD2, SDXL, SDXL_REFINER)}
_REFINER_WIDTH = 1280
_LARGEST_2X_WIDTH = 1024


def family_of(traits: Traits) -> Family:
    """The family of a model. Raises ModelError for an unCLIP model, which is none of them."""
    if traits.has_second:
        return SDXL if traits.text else SDXL_REFINER
    if traits.added:
        if traits.width <= _LARGEST_2X_WIDTH and traits.text:
            raise ModelError("is an unCLIP model, which takes a picture's embedding; give an ordinary checkpoint")
        return SDXL_REFINER if traits.width == _REFINER_WIDTH else SDXL
    return SD2 if traits.text == OPENCLIP or traits.linear else SD1
