"""What the config.json of an image encoder says of its widths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelError, quoted
from .base import as_object, from_mapping, read_json

_KINDS = ("clip_vision_model", "clip")


@dataclass(frozen=True)
class CLIPVisionConfig:
    """The keys of a CLIPVisionModelWithProjection's config.json that an edit asks for, with transformers' defaults."""

    hidden_size: int = 768
    projection_dim: int = 512
    image_size: int = 224


def image_encoder_config(folder: Path) -> tuple[CLIPVisionConfig, Mapping[str, Any]]:
    """What an image encoder's folder says of it, and all keys of its vision tower.

    Raises ModelError for what is no folder of one, or of another kind than CLIP's.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(f"{folder}: is no image encoder; expected a folder with a config.json and weights of CLIP")
    data = read_json(path)
    kind = data.get("model_type", _KINDS[0])
    if kind not in _KINDS:
        raise ModelError(f"{path}: is a {quoted(kind)}, and an IP-Adapter needs an image encoder of CLIP")
    if kind == "clip":  # text and vision together
        tower = as_object(data.get("vision_config"))
        data = {**tower, "projection_dim": data.get("projection_dim", CLIPVisionConfig.projection_dim)}
    return from_mapping(CLIPVisionConfig, data, str(path)), data
