"""Half precision where a CPU does not multiply in it: products in float32, of weights that lie in half precision."""

from __future__ import annotations

import copy
import gc
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from helpers.ip_adapters import image_encoder
from helpers.packing import needs_widening, network, packed, run
from helpers.tiny.networks import tiny_clip
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sdedit_cli import StableDiffusionImg2ImgPipeline
from sdedit_cli.configs.model_block import STARTER_FOLDER
from sdedit_cli.engine.image_prompts import looked_at
from sdedit_cli.engine.safety import SafetyChecker
from sdedit_cli.nn.base import Conv2d, Linear
from sdedit_cli.runtime import cpu
from sdedit_cli.runtime.cpu import narrow
from sdedit_cli.runtime.cpu.packed import put_into
from sdedit_cli.runtime.cpu.wide import widens
from sdedit_cli.runtime.equip import equip, widen

pytestmark = needs_widening
CPU = torch.device("cpu")
HALVES = [dtype for dtype in (torch.float16, torch.bfloat16) if widens(dtype)]


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(params=[None, 2**8], ids=["whole", "in pieces"])
def largest(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int | None:
    if request.param:
        monkeypatch.setattr(narrow, "LARGEST", request.param)
        monkeypatch.setattr(narrow, "_BLOCK", 16)
    return request.param


def off(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("kind", ["sd15", "sd21", "vae"])
def test_a_network_is_as_near_to_the_exact_one_as_by_torchs_own_half_precision(
    kind: str, half: torch.dtype, largest: int | None
) -> None:
    model = network(kind, half)
    exact, plainly = run(copy.deepcopy(model).double()), run(model)
    cpu.put_into(model)
    model.ops.attention = cpu.attention
    found = run(model)
    assert found.dtype == half
    assert found.is_contiguous()
    assert off(found, exact) < 1.05 * off(plainly, exact)
    assert torch.equal(run(model), found)
    assert len(packed(model)) > 10
    several = [layer for layer in packed(model) if len(layer._parameters.packed) > 1]
    assert len(several) > 10 if largest else not [x for x in several if isinstance(x, Conv2d)]


@pytest.mark.parametrize("half", HALVES)
def test_packed_or_not_the_bits_are_the_same_and_weights_stay_as_they_were(
    half: torch.dtype, largest: int | None
) -> None:
    model, never = network("sd15", half), network("sd15", half)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    cpu.put_into(model)
    put_into(never, cpu.NEVER)
    for side in (16, 8, 24, 16):
        assert torch.equal(run(model, side), run(never, side))
    kept = [piece for layer in packed(model) for piece in layer._parameters.packed]
    assert len(kept) > 10
    assert {piece.numbers.dtype for piece in kept} == {half}
    assert not packed(never)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def layers(half: torch.dtype, count: int = 3) -> nn.Module:
    holder = nn.Module()
    for index in range(count):
        torch.manual_seed(index)
        holder.add_module(f"conv{index}", Conv2d(64, 64, 3, padding=1))
        holder.add_module(f"linear{index}", Linear(64, 96))
    return holder.to(half).requires_grad_(False)


def test_weights_of_one_layout_share_the_room_in_which_they_are_multiplied_while_there_are_any() -> None:
    gc.collect()
    before = set(narrow._ROOMS)
    holder = layers(torch.float16)
    put_into(holder)
    convs = [layer for layer in holder.children() if isinstance(layer, Conv2d)]
    x = torch.randn(1, 64, 8, 8).half()
    first = [conv(x) for conv in convs]
    assert len(packed(holder)) == len(convs)
    assert len({id(layer._parameters.packed[0].room) for layer in convs}) == 1
    assert len(set(narrow._ROOMS) - before) == 1
    assert all(torch.equal(conv(x), result) for conv, result in zip(convs, first, strict=True))
    del holder, convs
    gc.collect()
    assert not set(narrow._ROOMS) - before


def test_what_was_packed_in_inference_mode_computes_outside_of_it() -> None:
    holder = layers(torch.float16)
    put_into(holder)
    x = torch.randn(1, 64, 8, 8).half()
    with torch.inference_mode():
        expected = holder.get_submodule("conv0")(x.clone())
        linear = holder.get_submodule("linear0")
        linear(torch.randn(32, 64).half())
        assert linear in packed(holder)
        weight = linear.weight
    weight.add_(1)
    assert torch.equal(holder.get_submodule("conv0")(x), expected)
    assert torch.isfinite(holder.get_submodule("conv1")(x)).all()


def test_threads_that_compute_at_once_do_not_write_over_each_others_weights() -> None:
    holder = layers(torch.float16)
    put_into(holder)
    x, rows = torch.randn(1, 64, 8, 8).half(), torch.randn(32, 64).half()
    called = [(layer, x if isinstance(layer, Conv2d) else rows) for layer in holder.children()]
    expected = [layer(given) for layer, given in called]

    def compute(index: int) -> bool:
        layer, given = called[index % len(called)]
        with torch.no_grad():
            return torch.equal(layer(given), expected[index % len(called)])

    with ThreadPoolExecutor(4) as threads:
        right = list(threads.map(compute, range(600)))
    assert sum(right) == len(right) == 600


def test_a_torch_that_does_not_tell_where_numbers_lie_computes_the_same_on_weights_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = network("sd15", torch.float16)
    cpu.put_into(model)
    expected = run(model)
    model.state_dict()
    monkeypatch.setattr(narrow, "_NAMES", ("what_no_torch_has",))
    assert torch.equal(run(model), expected)
    assert not packed(model)


@pytest.mark.parametrize("half", HALVES)
def test_a_small_unet_and_a_text_encoder_compute_so_too(half: torch.dtype) -> None:
    unet = network("sd15", half)
    equip(unet, CPU)
    run(unet)
    assert len(packed(unet)) > 10
    assert unet.ops.attention is cpu.attention
    torch.manual_seed(0)
    encoder = tiny_clip().to(half).requires_grad_(False)
    ids = torch.randint(0, encoder.config.vocab_size - 1, (2, encoder.config.max_position_embeddings))
    exact, plainly = copy.deepcopy(encoder).double()(ids).last_hidden_state, encoder(ids).last_hidden_state
    widen(encoder, CPU)
    found = encoder(ids).last_hidden_state
    assert found.dtype == half
    assert off(found, exact) < 1.05 * off(plainly, exact)
    assert not packed(encoder)
    assert all(layer.way is not None for layer in encoder.modules() if isinstance(layer, Linear))
    widen(encoder.float(), CPU)
    assert all(layer.way is None for layer in encoder.modules() if isinstance(layer, Linear))


def test_a_pipeline_widens_its_networks_by_the_precision_that_they_have_now() -> None:
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(STARTER_FOLDER)
    ways = [layer for layer in pipe.text_encoder.modules() if isinstance(layer, Linear)]
    assert all(layer.way is None for layer in ways)
    pipe.to(torch.float16)
    assert all(layer.way is not None for layer in ways)
    pipe.to(torch.float32)
    assert all(layer.way is None for layer in ways)


class Products(TorchDispatchMode):
    """The precisions in which products are made, by operation."""

    def __init__(self) -> None:
        super().__init__()
        self.of: dict[str, set[torch.dtype]] = defaultdict(set)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ("addmm", "mm", "convolution") or "attention" in name:
            self.of[name].add(args[0].dtype)
        return func(*args, **kwargs or {})


OF_TOWERS = {"addmm", "mm", "convolution", "_scaled_dot_product_flash_attention_for_cpu"}


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("states", [False, True])
def test_a_tower_of_transformers_multiplies_in_float32_too(half: torch.dtype, states: bool) -> None:
    tower = image_encoder().to(half)
    pixels = torch.randn(2, 3, tower.config.image_size, tower.config.image_size).to(half)
    exact = looked_at(copy.deepcopy(tower).double(), pixels.double(), states=states)[0]
    plainly = tower(pixels, output_hidden_states=True)
    plain = plainly.hidden_states[-2] if states else plainly.image_embeds
    with Products() as products:
        found = looked_at(tower, pixels, states=states)[0]
    assert found.dtype == half
    assert off(found, exact) < 1.05 * off(plain, exact)
    assert products.of.keys() == OF_TOWERS
    assert set().union(*products.of.values()) == {torch.float32}


@pytest.mark.parametrize("half", HALVES)
def test_the_safety_checker_multiplies_in_float32_too(half: torch.dtype) -> None:
    vision = image_encoder().config.to_dict()
    checker = SafetyChecker({"vision_config": vision, "projection_dim": 16}).to(half)
    pixels = torch.randn(2, 3, vision["image_size"], vision["image_size"])
    with Products() as products:
        checker.judge(pixels)
    # Of the few numbers that are compared with the concepts the products are plain.
    assert products.of.pop("mm") == {torch.float32, half}
    assert products.of.keys() == OF_TOWERS - {"mm"}
    assert set().union(*products.of.values()) == {torch.float32}
