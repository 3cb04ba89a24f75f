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
from torch import Tensor, nn
from torch.nn import functional as F

from ..configs.base import read_json
from ..runtime.cpu.wide import wide_products
from .towers import filled

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
        pixels_BCHW = pixels_BCHW.to(self.device, self.dtype)
        with wide_products(pixels_BCHW):
            pooled = self.vision_model(pixels_BCHW).pooler_output
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

    def forward(self, clip_input: Tensor, images: Tensor) -> tuple[Tensor, list[bool]]:
        """The pictures (B, C, H, W), flagged ones blackened (all zero), and the flags; `clip_input` is what the feature
        extractor makes of them."""
        flags = [verdict.nsfw for verdict in self.judge(clip_input)]
        rows = [torch.zeros_like(x) if flag else x for x, flag in zip(images, flags, strict=True)]
        return torch.stack(rows), flags


def _cosines(embeds_BD: Tensor, table_KD: Tensor) -> list[list[float]]:
    return [_numbers(row) for row in torch.mm(embeds_BD, F.normalize(table_KD).t())]


def _numbers(row: Tensor) -> list[float]:
    return cast("list[float]", row.cpu().float().tolist())


def load_checker(folder: Path, dtype: torch.dtype) -> SafetyChecker:
    """The checker of a `safety_checker` folder. Raises ModelError when its config or weights do not fit."""
    config = read_json(folder / "config.json")
    return cast("SafetyChecker", filled(lambda: SafetyChecker(config), folder, dtype))
