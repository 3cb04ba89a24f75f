"""What the loop and the command line rely on: rows that do not see each other, graphs without breaks, light imports."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny.configs import FAMILIES
from helpers.tiny.networks import tiny_clip, tiny_unet, tiny_vae

from sdedit_cli.nn import Context, FreeU


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("freeu", [None, FreeU(0.9, 0.2, 1.2, 1.4)])
@pytest.mark.parametrize("family", ["sd15", "sd21"])
def test_a_row_is_bit_equal_whatever_its_neighbours_and_its_place(family: str, freeu: FreeU | None) -> None:
    model = tiny_unet(family)
    x, t, text = torch.randn(4, 4, 8, 8), torch.tensor([900, 500, 20, 1]), torch.randn(4, 7, 32)
    emb, context = model.embed_time(t), model.context(text)
    together = model(x, emb, context, freeu)
    order = torch.tensor([2, 0, 3, 1])
    assert torch.equal(model(x[order], emb[order], context.rows(order), freeu), together[order])
    others = torch.cat([x[:1], torch.randn(3, 4, 8, 8) * 100])
    new_text = Context.cat([context.rows([0]), model.context(torch.randn(3, 7, 32))])
    assert torch.equal(model(others, emb[[0, 1, 1, 2]], new_text, freeu)[0], together[0])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("family", FAMILIES)
def test_the_unet_is_one_graph_to_the_compiler(family: str) -> None:
    model = tiny_unet(family)
    context, emb = model.context(torch.randn(1, 7, 32)), torch.randn(1, model.config.time_dim)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    for freeu in (None, FreeU(0.9, 0.2, 1.2, 1.4)):
        x = torch.randn(1, 4, 7, 8)
        assert torch.equal(compiled(x, emb, context, freeu), model(x, emb, context, freeu))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_decoder_and_text_encoder_are_one_graph_to_the_compiler() -> None:
    vae, clip = tiny_vae(), tiny_clip()
    z, ids = torch.randn(1, 4, 5, 8), torch.randint(3, 900, (1, 77))
    assert torch.equal(torch.compile(vae.decode, backend="eager", fullgraph=True)(z), vae.decode(z))
    compiled = torch.compile(clip, backend="eager", fullgraph=True)
    assert torch.equal(compiled(ids).pooled, clip(ids).pooled)
