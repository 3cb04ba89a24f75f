"""What a CPU makes of a network depends on how large it is and how often it computes."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from helpers.packing import packed
from helpers.tiny.networks import tiny_unet, tiny_vae

from sdedit_cli.runtime import cpu
from sdedit_cli.runtime.cpu.packed import is_there

pytestmark = pytest.mark.skipif(not is_there(), reason="torch has no oneDNN for this kind of processor")
equipping = importlib.import_module("sdedit_cli.runtime.equip")


@torch.no_grad()
def test_a_small_unet_keeps_torchs_own_layers_and_a_large_one_has_packed_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unet: Any = tiny_unet("sd15")
    unet.requires_grad_(False)
    x, text = torch.randn(2, 4, 16, 16), torch.randn(2, 77, unet.config.cross_attention_dim)

    def call() -> torch.Tensor:
        return unet(x, unet.embed_time(torch.ones(2)), unet.context(text))

    plainly = call()
    equipping.equip(unet, torch.device("cpu"))
    assert torch.equal(call(), plainly)
    assert not packed(unet)
    monkeypatch.setattr(equipping, "SMALL", 0)
    equipping.equip(unet, torch.device("cpu"))
    call()
    assert len(packed(unet)) > 10
    monkeypatch.undo()
    equipping.equip(unet, torch.device("cpu"))
    assert torch.equal(call(), plainly)
    assert unet.ops.residual is cpu.in_place.residual


@torch.no_grad()
def test_an_autoencoder_has_packed_weights_from_its_second_call() -> None:
    vae: Any = tiny_vae()
    vae.requires_grad_(False)
    equipping.equip(vae, torch.device("cpu"))
    seen: list[int] = []
    for _ in range(2):
        vae.decode(torch.randn(1, 4, 16, 16))
        seen.append(len(packed(vae)))
    assert seen[0] == 0 < seen[1]
