"""OpenVINO computes what the layers compute: for all that a UNet reads, at any size, for the weights as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from helpers.tiny.configs import unet_config, vae_config
from torch import Tensor

pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'sdedit-cli[test]'")

from sdedit_cli.configs.unet import UNetConfig
from sdedit_cli.configs.vae import VAEConfig
from sdedit_cli.nn import AutoencoderKL, FreeU, ImageSource, Tiles, UNet2DCondition, wrapped
from sdedit_cli.nn.base import Conv2d
from sdedit_cli.nn.tiling import Pieces
from sdedit_cli.runtime.openvino import InMemory, Machine, attach

# Of numbers around 1, in float32.
BOUND = 2e-5


class Counting(InMemory):
    """A shelf that knows how often something was put on it."""

    def __init__(self) -> None:
        super().__init__()
        self.put_names: list[str] = []

    def put(self, name: str, data: bytes) -> None:
        self.put_names.append(name)
        super().put(name, data)


@pytest.fixture(scope="module")
def machine() -> Machine:
    """All tests share what was converted."""
    return Machine(threads=1, shelf=Counting())


def random_unet(family: str = "sd15", seed: int = 0, **changes: Any) -> UNet2DCondition:
    torch.manual_seed(seed)
    return UNet2DCondition(UNetConfig.from_dict(unet_config(family, **changes))).eval()


@contextmanager
def layers(network: Any) -> Iterator[None]:
    """Has the layers compute for once."""
    name = "way" if isinstance(network, UNet2DCondition) else "ways"
    kept = getattr(network, name)
    setattr(network, name, None if name == "way" else {})
    try:
        yield
    finally:
        setattr(network, name, kept)


def both(network: Any, call: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    """What OpenVINO says, and what the layers say."""
    with torch.no_grad():
        ours = call()
        with layers(network):
            return ours, call()


def inputs(unet: UNet2DCondition, rows: int = 2, size: tuple[int, int] = (16, 16), tokens: int = 77) -> Any:
    draw = torch.Generator().manual_seed(rows + tokens)
    width = unet.config.cross_attention_dim
    with torch.no_grad():
        context = unet.context(torch.randn(rows, tokens, int(width), generator=draw))  # type: ignore[call-overload]
        emb = unet.embed_time(torch.full((rows,), 500.0))
    return torch.randn(rows, 4, *size, generator=draw), emb, context


def far(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    return float((ours - theirs).abs().max())


SHAPES = ((2, (16, 16), 77), (4, (9, 13), 77), (1, (16, 8), 154))


UNETS: dict[str, dict[str, Any]] = {
    "sd15": {},
    "sd21": {"family": "sd21"},
    "the time scales and shifts": {"resnet_time_scale_shift": "scale_shift"},
}


@pytest.mark.parametrize("kind", UNETS)
def test_a_unet_at_any_size_batch_and_length_of_text_is_converted_once(kind: str) -> None:
    shelf = Counting()
    unet = random_unet(**UNETS[kind])
    attach([unet], Machine(threads=1, shelf=shelf))
    for rows, size, tokens in SHAPES:
        given = inputs(unet, rows, size, tokens)
        assert far(*both(unet, lambda given=given: unet.step(*given))) < BOUND, (rows, size, tokens)
    assert len(shelf.put_names) == 1


def test_rows_do_not_depend_on_their_company(machine: Machine) -> None:
    unet = random_unet()
    attach([unet], machine)
    x, emb, context = inputs(unet, 4)
    with torch.no_grad():
        whole = unet.step(x, emb, context)
        order = [2, 0, 0, 0]
        other = unet.step(x[order], emb[order], context.rows(order))
    assert torch.equal(whole[2], other[0])
    assert torch.equal(whole[0], other[3])


@pytest.mark.parametrize("size", [(16, 16), (9, 13), (2, 2)])
def test_freeu_without_a_fourier_transform(machine: Machine, size: tuple[int, int]) -> None:
    """At 2 x 2 the bottom has one place, and with it one frequency."""
    unet, freeu = random_unet(), FreeU(0.9, 0.2, 1.5, 1.6)
    attach([unet], machine)
    given = inputs(unet, size=size)
    ours, theirs = both(unet, lambda: unet.step(*given, freeu))
    assert far(ours, theirs) < BOUND
    assert float((theirs - unet.step(*given)).abs().max()) > 1e-2, "it does something"


def test_image_prompts_with_scales_of_layers_and_masks(machine: Machine) -> None:
    unet = random_unet()
    attach([unet], machine)
    x, emb, context = inputs(unet)
    draw = torch.Generator().manual_seed(9)
    count = len(context.kv)
    scales = (0.7, 0.0, 0.4, 0.9)[:count]
    kv = tuple(
        (torch.randn(k[:, :, :4].shape, generator=draw), torch.randn(k[:, :, :4].shape, generator=draw))
        for k, _ in context.kv
    )
    places = {layer.to_q.in_features: 256 if layer.to_q.in_features == 32 else 64 for layer in unet.cross_attentions()}
    masks = tuple(torch.rand(2, places[layer.to_q.in_features], 1, generator=draw) for layer in unet.cross_attentions())
    for images in ((ImageSource(kv, scales),), (ImageSource(kv, scales), ImageSource(kv, scales[::-1], masks))):
        seeing = type(context)(context.kv, images)
        ours, theirs = both(unet, lambda seeing=seeing: unet.step(x, emb, seeing))
        assert far(ours, theirs) < BOUND
        assert far(theirs, unet.step(x, emb, context)) > 1e-3, "they are seen"


def test_edges_that_meet(machine: Machine) -> None:
    unet, vae = random_unet(), random_vae()
    attach([unet, vae], machine)
    given = inputs(unet)
    with wrapped(unet, (True, False)), wrapped(vae, (True, True)):
        assert far(*both(unet, lambda: unet.step(*given))) < BOUND
        assert far(*both(vae, lambda: vae.decode(given[0]))) < BOUND
    assert far(*both(unet, lambda: unet.step(*given))) < BOUND


@pytest.mark.parametrize("mode", ["circular", "reflect", "replicate"])
def test_convolutions_that_pad_as_a_script_says_are_another_network(machine: Machine, mode: str) -> None:
    unet, vae = random_unet(), random_vae()
    attach([unet, vae], machine)
    given = inputs(unet)
    for network, call in ((unet, lambda: unet.step(*given)), (vae, lambda: vae.decode(given[0]))):
        with torch.no_grad():
            before = call()
        for layer in network.modules():
            if isinstance(layer, Conv2d):
                layer.padding_mode = mode  # type: ignore[assignment]
        ours, theirs = both(network, call)
        assert far(ours, theirs) < BOUND
        assert far(theirs, before) > 1e-3, "the mode is seen"


def random_vae() -> AutoencoderKL:
    torch.manual_seed(1)
    return AutoencoderKL(VAEConfig.from_dict(vae_config())).eval()


@pytest.mark.parametrize("pieces", [Pieces(), Pieces(tiling=True), Pieces(tiles=Tiles(16, 4))])
def test_an_autoencoder_both_ways_whole_and_in_pieces(machine: Machine, pieces: Pieces) -> None:
    vae = random_vae()
    attach([vae], machine)
    vae.pieces = pieces
    image = torch.rand(1, 3, 48, 40, generator=torch.Generator().manual_seed(2)) * 2 - 1
    assert far(*both(vae, lambda: vae.encode(image).mean)) < BOUND
    assert (
        far(*both(vae, lambda: vae.decode(torch.nn.functional.avg_pool2d(image, 2).repeat(1, 2, 1, 1)[:, :4]))) < BOUND
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16])
def test_half_precision_is_as_near_to_single_as_the_layers_are(machine: Machine, dtype: torch.dtype) -> None:
    from sdedit_cli.errors import UsageError

    try:
        machine.dtype("bf16")
    except UsageError:
        pytest.skip("this processor has no bfloat16")
    unet = random_unet()
    x, emb, context = inputs(unet)
    with torch.no_grad():
        exact = unet.step(x, emb, context)
        unet.to(dtype)
        attach([unet], machine)
        halves = [type(context)(tuple((k.to(dtype), v.to(dtype)) for k, v in context.kv))]
        ours, theirs = both(unet, lambda: unet.step(x.to(dtype), emb.to(dtype), halves[0]))
    assert ours.dtype == dtype
    assert float((ours.float() - exact).abs().mean()) < 2 * float((theirs.float() - exact).abs().mean())


def test_weights_that_change_are_those_that_count_and_come_back_bit_for_bit(machine: Machine) -> None:
    unet = random_unet()
    attach([unet], machine)
    given = inputs(unet)
    weight = unet.mid_block.resnets[0].conv1.weight  # type: ignore[union-attr]
    base = weight.detach().clone()
    with torch.no_grad():
        before = unet.step(*given)
        weight.add_(0.3)
        ours, theirs = both(unet, lambda: unet.step(*given))
        assert far(ours, theirs) < BOUND
        assert far(theirs, before) > 1e-3, "the change is seen"
        weight.copy_(base)
        assert torch.equal(unet.step(*given), before)


def test_another_process_converts_nothing_and_says_the_same() -> None:
    shelf = Counting()
    given = None
    said: list[Tensor] = []
    for _ in range(2):
        unet = random_unet()
        attach([unet], Machine(threads=1, shelf=shelf))
        given = given or inputs(unet)
        with torch.no_grad():
            said.append(unet.step(*given))
    assert len(shelf.put_names) == 1
    assert torch.equal(*said)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "a bit flipped": lambda data: data[:5000] + bytes([data[5000] ^ 1]) + data[5001:],
    "another file": lambda data: b"PK\x03\x04" * 1000,
}


def test_what_is_damaged_on_the_shelf_is_made_anew() -> None:
    shelf = Counting()
    made = 0
    vae = random_vae()
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    for damage in (None, *DAMAGE.values()):
        if damage is not None:
            (name,) = set(shelf.put_names)
            found = shelf.get(name)
            assert found is not None
            InMemory.put(shelf, name, damage(found))
        attach([vae], Machine(threads=1, shelf=shelf))
        assert far(*both(vae, lambda: vae.decode(latents))) < BOUND
        made += 1
        assert len(shelf.put_names) == made
    assert made == 1 + len(DAMAGE)


def test_what_the_shelf_holds_of_another_program_is_made_anew() -> None:
    """Whole, and with the right digest, but no graph."""
    from sdedit_cli.runtime.openvino.shelf import kept

    shelf = InMemory()
    assert kept(shelf, "name", lambda: b"words", bytes.decode) == "words"
    assert kept(shelf, "name", lambda: b"0.5", float) == 0.5
    assert kept(shelf, "name", lambda: b"0.7", float) == 0.5
