"""A picture that is edited several times is encoded once, and never in the place of another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.tiny.networks import tiny_vae

from sdedit_cli.engine.looks import LastLook
from sdedit_cli.nn import AutoencoderKL, wrapped


def test_the_last_look_is_what_the_autoencoder_would_say_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another picture, precision, autoencoder, way of cutting or of meeting edges is another look."""
    encode, calls = AutoencoderKL.encode, list[int]()

    def counted(vae: AutoencoderKL, image: Any) -> Any:
        calls.append(1)
        return encode(vae, image)

    monkeypatch.setattr(AutoencoderKL, "encode", counted)
    vae, other, look = tiny_vae(), tiny_vae(1), LastLook()
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    cases = [(vae, image), (vae, image + 0.1), (other, image), (vae, image[..., :32])]
    for number, (whose, picture) in enumerate(cases, 1):
        for again in (picture, picture.clone()):
            assert torch.equal(look(whose, again).mean, encode(whose, picture).mean)
        assert len(calls) == number

    plain = look(vae, image).mean
    with wrapped(vae, (True, False)):
        assert not torch.equal(look(vae, image).mean, plain)
        assert torch.equal(look(vae, image).mean, encode(vae, image).mean)
    assert torch.equal(look(vae, image).mean, plain)
    before, calls[:] = vae.pieces, []
    vae.pieces = replace(before, tiling=True)
    look(vae, image)
    vae.pieces = before
    look(vae, image)
    assert len(calls) == 2
