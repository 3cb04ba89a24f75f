"""CLIPTextConfig: what a `text_encoder/config.json` says."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from .base import NetworkConfig
from .check import LARGEST, one_of, refuse, sizes

ACTIVATIONS = ("quick_gelu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu")

# Prompts are filled up to all of them, and take time by their square; the longest encoders of this kind have 248.
_MOST_POSITIONS = 4096


@dataclass(frozen=True)
class CLIPTextConfig(NetworkConfig):
    """The keys of a CLIP text encoder's config.json, with the defaults that a missing key has."""

    vocab_size: int = 49408
    hidden_size: int = 512
    intermediate_size: int = 2048
    projection_dim: int | None = 512
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    attention_dropout: float = 0.0
    initializer_range: float = 0.02
    initializer_factor: float = 1.0
    pad_token_id: int | None = 1
    bos_token_id: int | None = 49406
    eos_token_id: int = 49407

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], source: str = "config.json") -> CLIPTextConfig:
        nested: object = data.get("text_config")  # the config of a whole CLIP keeps its text half there
        if isinstance(nested, dict):
            data = cast("dict[str, Any]", nested)
        return super().from_dict(data, source)

    def to_dict(self) -> dict[str, Any]:
        return {"architectures": ["CLIPTextModel"], "model_type": "clip_text_model", **dataclasses.asdict(self)}

    def projected(self, source: str = "config") -> int:
        """The width of a projection behind the encoder. Raises ModelError, naming `source`, where there can be none."""
        width = self.projection_dim
        if width is None or not 1 <= width <= LARGEST:
            refuse(source, "projection_dim", width, f"1 to {LARGEST}")
        return width

    def check(self, source: str = "config") -> None:
        one_of(source, "hidden_act", self.hidden_act, ACTIVATIONS)
        sizes(source, "vocab_size", self.vocab_size, largest=1 << 24)
        for key in ("hidden_size", "intermediate_size", "num_attention_heads"):
            sizes(source, key, getattr(self, key), largest=LARGEST)
        sizes(source, "max_position_embeddings", self.max_position_embeddings, largest=_MOST_POSITIONS)
        sizes(source, "eos_token_id", self.eos_token_id, least=0, largest=1 << 24)
        sizes(source, "num_hidden_layers", self.num_hidden_layers, largest=1024)
        if self.hidden_size % self.num_attention_heads:
            refuse(
                source, "num_attention_heads", self.num_attention_heads, f"a divisor of the width {self.hidden_size}"
            )
