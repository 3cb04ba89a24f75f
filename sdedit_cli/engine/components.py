"""What an edit is made with."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Protocol

from torch import nn

from ..errors import UsageError
from ..nn import AutoencoderKL, CLIPTextModel, TinyAutoencoder, UNet2DCondition
from ..noise import Scheduler
from ..text import Tokenizer

VAE = AutoencoderKL | TinyAutoencoder


class TextSide(Protocol):
    """What reads prompts, whether or not there is more."""

    @property
    def text_encoder(self) -> CLIPTextModel | None: ...
    @property
    def tokenizer(self) -> Tokenizer | None: ...


@dataclass(frozen=True)
class TextEncoding:
    """A TextSide alone."""

    text_encoder: CLIPTextModel
    tokenizer: Tokenizer


@dataclass(frozen=True)
class Components:
    """Networks and their company, under the names of a model folder.

    Raises UsageError for a safety checker without its feature extractor.
    """

    vae: VAE
    text_encoder: CLIPTextModel | None
    tokenizer: Tokenizer | None
    unet: UNet2DCondition
    scheduler: Scheduler
    safety_checker: Any = None
    feature_extractor: Any = None
    image_encoder: Any = None
    requires_safety_checker: bool = True

    def __post_init__(self) -> None:
        if self.safety_checker is not None and self.feature_extractor is None:
            raise UsageError("a safety_checker needs a feature_extractor; give both, or safety_checker=None")

    def networks(self) -> list[nn.Module]:
        return [value for value in vars(self).values() if isinstance(value, nn.Module)]


NAMES = tuple(field.name for field in fields(Components))
