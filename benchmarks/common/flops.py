"""Floating point operations of a work, counted by torch on the reference's modules without numbers (device meta).

Products, convolutions and attention count, a multiplication and an addition as two; norms and activations do not.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any


@cache
def counted(folder: Path, work: str, side: int, batch: int = 1) -> float:
    """Of `step` (guided, so of twice the rows), `encode` or `decode` at `side` x `side` pixels."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"), torch.no_grad():
        network = _network(folder, "unet" if work == "step" else "vae")
        with FlopCounterMode(display=False) as counter:
            if work == "step":
                text = torch.empty(2 * batch, 77, network.config.cross_attention_dim)
                network(torch.empty(2 * batch, 4, side // 8, side // 8), torch.tensor(500), encoder_hidden_states=text)
            elif work == "decode":
                network.decode(torch.empty(batch, 4, side // 8, side // 8))
            else:
                network.encode(torch.empty(batch, 3, side, side))
    return float(counter.get_total_flops())


@cache
def _network(folder: Path, part: str) -> Any:
    import diffusers

    config = json.loads((folder / part / "config.json").read_text(encoding="utf-8"))
    return getattr(diffusers, config["_class_name"]).from_config(config)
