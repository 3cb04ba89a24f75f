"""CLIP's vision towers: the one of the safety checker, and the encoder of image prompts. transformers has the network
(imported when one is built); weights and configs are read here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from ..configs.base import read_json
from ..configs.clip_vision import image_encoder_config
from ..errors import ModelError
from .image import loaded

PREPROCESSOR = "preprocessor_config.json"
_NOT_VISION = ("text_model.", "text_projection.", "logit_scale")  # of checkpoints that hold both halves of CLIP


def filled(build: Callable[[], nn.Module], folder: Path, dtype: torch.dtype) -> nn.Module:
    """What `build` makes, with the weights of `folder`. Raises ModelError when its config or weights do not fit."""
    from ..weights import open_weights
    from ..weights.checkpoint.weight_files import find_weights
    from ..weights.load.fill import fill

    try:
        with torch.device("meta"):
            module = build()
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError, AttributeError) as error:
        raise ModelError(f"{folder / 'config.json'}: no CLIP vision tower can be built from it ({error})") from None
    own = list(module.state_dict())
    fill(module, open_weights(find_weights(folder)), dtype=dtype, rename=lambda name: _our_name(name, own))
    _restore_buffers(module)
    return module.eval()


def _our_name(name: str, own: Sequence[str]) -> str | None:
    """The module's name for that of a file: releases of transformers differ in how often the prefix is repeated."""
    if (name.endswith("position_ids") and name not in own) or name.startswith(_NOT_VISION):
        return None  # a constant that older releases saved, or the other half
    bare = name
    while bare.startswith("vision_model."):
        bare = bare.removeprefix("vision_model.")
    return next((known for known in own if known.endswith("." + bare) or known == bare), name)


def _restore_buffers(module: nn.Module) -> None:
    """Position numbers are not in the files, and a module built on meta has none."""
    for part in module.modules():
        for name, buffer in part.named_buffers(recurse=False):
            if buffer.is_meta:
                setattr(part, name, torch.arange(buffer.numel()).reshape(buffer.shape))


def load_image_encoder(folder: Path, dtype: torch.dtype) -> Any:
    """transformers' CLIPVisionModelWithProjection of an `image_encoder` folder. Raises ModelError."""
    _, keys = image_encoder_config(folder)

    def build() -> nn.Module:
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

        return CLIPVisionModelWithProjection(CLIPVisionConfig(**keys))

    return filled(build, folder, dtype)


def load_feature_extractor(folder: Path) -> Any:
    """transformers' CLIP picture preparation as `preprocessor_config.json` in `folder` describes it."""
    config = read_json(folder / PREPROCESSOR)
    names = ("do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor")
    known = (*names, "do_normalize", "image_mean", "image_std", "do_convert_rgb")
    return _processor()(**{name: config[name] for name in known if name in config})


def feature_extractor_of(side: int) -> Any:
    """CLIP's own preparation for pictures of `side` pixels: the short side resized to it, then the middle cut out."""
    return _processor()(size={"shortest_edge": side}, crop_size={"height": side, "width": side})


def _processor() -> Any:
    import transformers

    # The one of Pillow, where releases have two: pictures are then the same whether torchvision is installed or not.
    return getattr(transformers, "CLIPImageProcessorPil", None) or transformers.CLIPImageProcessor


def clip_pixels(feature_extractor: Any, images: Sequence[Image.Image]) -> Tensor:
    """Pictures as the vision tower takes them, (B, 3, side, side). Raises PictureError for a damaged file."""
    some: Sequence[Any] = images  # a caller of the library may bring arrays
    given = [loaded(image) if isinstance(image, Image.Image) else image for image in some]
    return feature_extractor(given, return_tensors="pt").pixel_values
