"""Leaves of every kind of adapter, of random numbers, for weights of 8 outputs and 12 inputs."""

from __future__ import annotations

import torch
from torch import Tensor

R = 2
LINEAR, CONV, POINTWISE = (8, 12), (8, 12, 3, 3), (8, 12, 1, 1)
SHAPES = (LINEAR, CONV, POINTWISE)
CORES = ("locon_mid", "loha_tucker", "lokr_core")  # forms for kernels alone

# What a form of a kind is made of, by the dimensions of the weight: o and i of outputs and inputs, k of the kernel
# (nothing for linear layers), f = i·k. LoKr cuts 8 × 12 into 2 × 3 and 4 × 4.
FORMS: dict[str, dict[str, str]] = {
    "lora": {"up": "o r", "down": "r i k"},
    "lora_4d": {"up": "o r 1 1", "down": "r f 1 1"},
    "locon_mid": {"up": "o r 1 1", "down": "r i 1 1", "mid": "r r k"},
    "loha": {"hada_w1_a": "o r", "hada_w1_b": "r f", "hada_w2_a": "o r", "hada_w2_b": "r f"},
    "loha_tucker": {
        "hada_w1_a": "r o",
        "hada_w1_b": "r i",
        "hada_w2_a": "r o",
        "hada_w2_b": "r i",
        "hada_t1": "r r k",
        "hada_t2": "r r k",
    },
    "lokr_whole": {"lokr_w1": "2 3", "lokr_w2": "4 4 k"},
    "lokr_second": {"lokr_w1": "2 3", "lokr_w2_a": "4 r", "lokr_w2_b": "r 4k"},
    "lokr_first": {"lokr_w1_a": "2 r", "lokr_w1_b": "r 3", "lokr_w2": "4 4 k"},
    "lokr_both": {"lokr_w1_a": "2 1", "lokr_w1_b": "1 3", "lokr_w2_a": "4 r", "lokr_w2_b": "r 4k"},
    "lokr_core": {"lokr_w1": "2 3", "lokr_w2_a": "r 4", "lokr_w2_b": "r 4", "lokr_t2": "r r k"},
    "lokr_large_first": {"lokr_w1": "4 4", "lokr_w2": "2 3 k"},
    "dora_outputs": {"up": "o r", "down": "r i k", "dora_scale": "o 1"},
    "dora_inputs": {"up": "o r", "down": "r i k", "dora_scale": "1 i"},
    "dora_peft": {"up": "o r", "down": "r i k", "magnitude": "o"},
    "ia3_outputs": {"ia3_weight": "o", "ia3_on_input": ""},
    "ia3_inputs": {"ia3_weight": "1 i 1 1", "ia3_on_input": ""},
    "glora": {"a1": "i r", "a2": "r i", "b1": "o r", "b2": "r i k"},
    "glora_first": {"a1": "r i", "a2": "i r", "b1": "r i k", "b2": "o r"},
    "oft": {"oft_blocks": "2 4 4"},
    "oft_rescaled": {"oft_blocks": "4 2 2", "rescale": "o 1"},
    "boft": {"oft_blocks": "3 4 2 2"},
    "oft_first": {"oft_diag": "2 4 4"},
    "oft_v2": {"oft_R": "f/4 6"},
    "oft_v2_shared": {"oft_R": "1 3"},
    "oft_v2_scaled": {"oft_R": "f/4 6", "oft_R_scaled": ""},
    "full": {"diff": "o i k"},
    "sparse": {"bias_indices": "2 5", "bias_values": "5", "bias_size": "2"},
}


def forms(shape: tuple[int, ...]) -> list[str]:
    return [form for form in FORMS if form not in CORES or shape[2:].count(1) != len(shape[2:])]


def shape_in_words(words: str, weight: tuple[int, ...]) -> list[int]:
    out, inputs, *kernel = weight
    area = torch.Size(kernel).numel()
    sizes = {"o": out, "i": inputs, "r": R, "f": inputs * area, "4k": 4 * area, "f/4": inputs * area // 4}
    return [
        size
        for word in words.split()
        for size in (kernel if word == "k" else [sizes[word] if word in sizes else int(word)])
    ]


def example(form: str, weight: tuple[int, ...], draw: torch.Generator) -> dict[str, Tensor]:
    """Leaves of that form that fit the weight."""
    leaves = {name: torch.randn(shape_in_words(words, weight), generator=draw) for name, words in FORMS[form].items()}
    if "ia3_on_input" in leaves:
        leaves["ia3_on_input"] = torch.tensor(float(form == "ia3_inputs"))
    if form == "sparse":
        columns = torch.Size(weight[1:]).numel()
        leaves["bias_indices"] = torch.tensor([[0, 0, 3, 7, 7], [0, 5, 11, 2, columns - 1]])
        leaves["bias_size"] = torch.tensor([weight[0], columns])
    return leaves


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
