"""The text encoder of CLIP (arXiv 2103.00020), top to bottom as data flows.

Shapes: B rows, T tokens, C width, N heads, D width of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..configs.clip import CLIPTextConfig
from .base import Embedding, LayerNorm, Linear, Model

LEGACY_EOS = 2
"""The end token's number in configs of 2022, which is wrong: their end token is the largest one."""


def quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "quick_gelu": quick_gelu,
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}


@dataclass(frozen=True)
class CLIPTextOutput:
    """`last_hidden_state` [B, T, C] after the final norm; `hidden_states`: the embeddings, then each layer's output
    before that norm; `pooled` [B, C]: the last hidden state at the end token."""

    last_hidden_state: Tensor
    hidden_states: tuple[Tensor, ...]
    pooled: Tensor


class Embeddings(nn.Module):
    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.token_embedding = Embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = Embedding(config.max_position_embeddings, config.hidden_size)

    def forward(self, ids_BT: Tensor) -> Tensor:
        return self.token_embedding(ids_BT) + self.position_embedding.weight[: ids_BT.shape[1]]


class CausalAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.k_proj = Linear(width, width)
        self.v_proj = Linear(width, width)
        self.q_proj = Linear(width, width)
        self.out_proj = Linear(width, width)

    def forward(self, x_BTC: Tensor) -> Tensor:
        q_BNTD, k_BNTD, v_BNTD = (
            proj(x_BTC).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        h_BNTD = F.scaled_dot_product_attention(q_BNTD, k_BNTD, v_BNTD, is_causal=True)
        return self.out_proj(h_BNTD.transpose(1, 2).flatten(-2))


class MLP(nn.Module):
    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.fc1 = Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = Linear(config.intermediate_size, config.hidden_size)
        self.act = ACTIVATIONS[config.hidden_act]

    def forward(self, x_BTC: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x_BTC)))


class EncoderLayer(nn.Module):
    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.self_attn = CausalAttention(config.hidden_size, config.num_attention_heads)
        self.layer_norm1 = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = MLP(config)
        self.layer_norm2 = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x_BTC: Tensor) -> Tensor:
        x_BTC = x_BTC + self.self_attn(self.layer_norm1(x_BTC))
        return x_BTC + self.mlp(self.layer_norm2(x_BTC))


class Encoder(nn.Module):
    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_hidden_layers))


class TextTransformer(nn.Module):
    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)
        self.final_layer_norm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)


def _named(name: str) -> str:
    is_bare = name.startswith(("embeddings.", "encoder.", "final_layer_norm."))
    return f"text_model.{name}" if is_bare else name


class CLIPTextModel(Model[CLIPTextConfig]):
    """Token numbers to the text that the UNet's cross-attention reads.

    Raises ModelError when the config describes a network that this program cannot build.
    """

    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__(config)
        config.check()
        self.text_model = TextTransformer(config)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As torch has it, also of transformers' text encoders: recent ones have their names without `text_model`, and
        old ones saved the numbers of positions."""
        known = {_named(name): value for name, value in state_dict.items() if not name.endswith("position_ids")}
        return super().load_state_dict(known, strict, assign)

    def final_norm(self, x_BTC: Tensor) -> Tensor:
        """The norm after the last layer; for clip skip it follows an earlier one."""
        return self.text_model.final_layer_norm(x_BTC)

    def forward(self, ids_BT: Tensor, embeds_BTC: Tensor | None = None) -> CLIPTextOutput:
        """Raises ValueError when there are more tokens than positions.

        `embeds_BTC` replaces the token and position embeddings of `ids_BT` (textual inversion, training).
        """
        positions = self.config.max_position_embeddings
        if ids_BT.shape[1] > positions:
            raise ValueError(f"{ids_BT.shape[1]} tokens for a text encoder of {positions} positions")
        x_BTC = self.text_model.embeddings(ids_BT) if embeds_BTC is None else embeds_BTC
        hidden = [x_BTC]
        for layer in self.text_model.encoder.layers:
            hidden.append(layer(hidden[-1]))
        last_BTC = self.final_norm(hidden[-1])
        return CLIPTextOutput(last_BTC, tuple(hidden), last_BTC[torch.arange(len(ids_BT)), self.end_of(ids_BT)])

    def end_of(self, ids_BT: Tensor) -> Tensor:
        """The place of the first end token in each row, [B]."""
        eos = self.config.eos_token_id
        ends_BT = ids_BT if eos == LEGACY_EOS else (ids_BT == eos)
        return ends_BT.int().argmax(dim=-1)
