"""The safety checker that Stable Diffusion 1.x checkpoints bring: CLIP's view of a picture against stored concepts.

The vision tower is transformers' (imported when a checker is built); the head is a table of concept embeddings, each
with its own threshold on the cosine similarity (arXiv 2210.04610 takes the head apart).

B pictures, C channels, H height, W width, K concepts, D projection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from ..configs.base import read_json
from ..errors import ModelError

CONCEPTS, SPECIAL = 17, 3
# One special concept over its threshold makes every later threshold this much stricter.
_STRICTER = 0.01


@dataclass(frozen=True)
class Verdict:
    """Scores of one picture, cosine minus threshold to three decimals; above 0 is a hit."""

    special: tuple[float, ...]
    concepts: tuple[float, ...]

    @property
    def nsfw(self) -> bool:
        return any(score > 0 for score in self.concepts)


class SafetyChecker(nn.Module):
    """Holds the tower and the concept table under the names of `safety_checker/model.safetensors`."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        from transformers import CLIPVisionConfig, CLIPVisionModel

        vision = cast("dict[str, Any]", config.get("vision_config") or {})
        dim = int(config.get("projection_dim", 768))
        self.config = dict(config)
        self.vision_model = cast("nn.Module", CLIPVisionModel(CLIPVisionConfig(**vision)))
        width = int(vision.get("hidden_size", 768))
        self.visual_projection = nn.Linear(width, dim, bias=False)
        self.concept_embeds = nn.Parameter(torch.ones(CONCEPTS, dim), requires_grad=False)
        self.special_care_embeds = nn.Parameter(torch.ones(SPECIAL, dim), requires_grad=False)
        self.concept_embeds_weights = nn.Parameter(torch.ones(CONCEPTS), requires_grad=False)
        self.special_care_embeds_weights = nn.Parameter(torch.ones(SPECIAL), requires_grad=False)

    @property
    def dtype(self) -> torch.dtype:
        return self.visual_projection.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.visual_projection.weight.device

    @torch.no_grad()
    def judge(self, pixels_BCHW: Tensor) -> list[Verdict]:
        """A verdict for each of the pictures, given as the feature extractor prepares them."""
        pooled = self.vision_model(pixels_BCHW.to(self.device, self.dtype)).pooler_output
        embeds_BD = F.normalize(self.visual_projection(pooled))
        special_BK = _cosines(embeds_BD, self.special_care_embeds)
        concepts_BK = _cosines(embeds_BD, self.concept_embeds)
        return [self._verdict(special, concept) for special, concept in zip(special_BK, concepts_BK, strict=True)]

    def _verdict(self, special_K: Sequence[float], concepts_K: Sequence[float]) -> Verdict:
        stricter = 0.0
        special: list[float] = []
        for cosine, threshold in zip(special_K, _numbers(self.special_care_embeds_weights), strict=True):
            special.append(round(cosine - threshold + stricter, 3))
            if special[-1] > 0:
                stricter = _STRICTER
        thresholds = _numbers(self.concept_embeds_weights)
        concepts = (round(cos - limit + stricter, 3) for cos, limit in zip(concepts_K, thresholds, strict=True))
        return Verdict(tuple(special), tuple(concepts))

    def forward(self, images_BCHW: Tensor, pixels_BCHW: Tensor) -> tuple[Tensor, list[bool]]:
        """The pictures, flagged ones blackened (all zero), and the flags."""
        flags = [verdict.nsfw for verdict in self.judge(pixels_BCHW)]
        rows = [torch.zeros_like(x) if flag else x for x, flag in zip(images_BCHW, flags, strict=True)]
        return torch.stack(rows), flags


def _cosines(embeds_BD: Tensor, table_KD: Tensor) -> list[list[float]]:
    return [_numbers(row) for row in torch.mm(embeds_BD, F.normalize(table_KD).t())]


def _numbers(row: Tensor) -> list[float]:
    return cast("list[float]", row.cpu().float().tolist())


def load_checker(folder: Path, dtype: torch.dtype) -> SafetyChecker:
    """The checker of a `safety_checker` folder. Raises ModelError when its config or weights do not fit."""
    from ..weights import open_weights
    from ..weights.checkpoint.weight_files import find_weights
    from ..weights.load.fill import fill

    config = read_json(folder / "config.json")
    try:
        with torch.device("meta"):
            checker = SafetyChecker(config)
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise ModelError(f"{folder / 'config.json'}: no CLIP vision tower can be built from it ({error})") from None
    own = list(checker.state_dict())
    fill(checker, open_weights(find_weights(folder)), dtype=dtype, rename=lambda name: _tower_name(name, own))
    _restore_buffers(checker)
    return checker.eval()


def _tower_name(name: str, own: Sequence[str]) -> str | None:
    """The module's name for that of a file: releases of transformers differ in how often the prefix is repeated."""
    if name.endswith("position_ids") and name not in own:
        return None  # a constant that older releases saved
    bare = name
    while bare.startswith("vision_model."):
        bare = bare.removeprefix("vision_model.")
    return next((known for known in own if known.endswith("." + bare) or known == bare), name)


def _restore_buffers(checker: nn.Module) -> None:
    """Position numbers are not in the files, and a module built on meta has none."""
    for module in checker.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_meta:
                setattr(module, name, torch.arange(buffer.numel()).reshape(buffer.shape))


def load_feature_extractor(folder: Path) -> Any:
    """transformers' CLIP picture preparation as `feature_extractor/preprocessor_config.json` describes it."""
    from transformers import CLIPImageProcessor

    config = read_json(folder / "preprocessor_config.json")
    names = ("do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor")
    known = (*names, "do_normalize", "image_mean", "image_std", "do_convert_rgb")
    return CLIPImageProcessor(**{name: config[name] for name in known if name in config})


def clip_pixels(feature_extractor: Any, images: list[Image.Image]) -> Tensor:
    """Pictures as the vision tower takes them, (B, 3, side, side)."""
    return feature_extractor(images, return_tensors="pt").pixel_values
