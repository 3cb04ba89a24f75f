"""Where the components sit in an LDM file, and the names of the EMA copy."""

from __future__ import annotations

UNET = "model.diffusion_model."
VAE = "first_stage_model."
CLIP = "cond_stage_model.transformer."
OPENCLIP = "cond_stage_model.model."
SDXL_CLIP = "conditioner.embedders.0.transformer."
SDXL_OPENCLIP = "conditioner.embedders.1.model."
REFINER_OPENCLIP = "conditioner.embedders.0.model."
EMA = "model_ema."


def ema_name(name: str) -> str:
    """The EMA copy's name of a UNet parameter: all dots within the model are dropped, as buffers may have none.

    `model.diffusion_model.input_blocks.0.0.weight` -> `model_ema.diffusion_modelinput_blocks00weight`
    """
    return EMA + name.removeprefix("model.").replace(".", "")
