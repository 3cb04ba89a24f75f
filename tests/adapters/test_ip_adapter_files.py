"""Files of IP-Adapters: told by their keys, fitted to a UNet of any shape, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.ip_adapters import VARIANTS, Nested, adapter, flat, save_adapter
from helpers.tiny.configs import unet_config
from helpers.tiny.networks import oracle_from_config

from sdedit_cli.adapters.ip_adapter import check_encoder, examine
from sdedit_cli.adapters.ip_layers import image_layers
from sdedit_cli.adapters.ip_scales import by_layer
from sdedit_cli.configs.clip_vision import image_encoder_config
from sdedit_cli.configs.unet import UNetConfig
from sdedit_cli.errors import ModelError, UsageError
from sdedit_cli.nn.ip_adapter import Resampler

CROSS, PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"
SHAPES: dict[str, dict[str, Any]] = {
    "sd15": {},
    "two layers": {"layers_per_block": 2},
    "lower levels attend": {
        "down_block_types": [PLAIN, CROSS],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    },
    "deep": {"transformer_layers_per_block": [2, 3]},
    "no bottom": {"mid_block_type": None},
    "a bottom that does not attend": {"mid_block_type": "UNetMidBlock2D"},
    "attends to text twice": {"only_cross_attention": True},
}


@pytest.fixture(scope="module")
def state() -> Callable[[str], Nested]:
    unet = oracle_from_config(unet_config())
    return lambda variant: adapter(variant, unet)


@pytest.mark.parametrize("shape", SHAPES)
def test_layers_are_numbered_as_the_oracle_numbers_its_processors(shape: str) -> None:
    config = unet_config(**SHAPES[shape])
    theirs = oracle_from_config(config)
    numbered = {
        number: (name.removesuffix(".processor"), tuple(theirs.get_submodule(name[:-10]).to_k.weight.shape))
        for number, name in enumerate(theirs.attn_processors)
        if name.endswith("attn2.processor")
    }
    ours = image_layers(UNetConfig.from_dict(config))
    assert {one.number: (one.module, (one.channels, one.context_dim)) for one in ours} == numbered
    assert len(numbered) > 0


def test_the_layers_of_1_5_are_the_odd_numbers_to_31_the_bottom_last() -> None:
    layers = image_layers(UNetConfig.from_dict({"cross_attention_dim": 768}))
    assert [one.number for one in layers] == list(range(1, 32, 2))
    assert layers[-1].module == "mid_block.attentions.0.transformer_blocks.0.attn2"


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_are_told_by_their_keys(
    variant: str, suffix: str, state: Callable[[str], Nested], tmp_path: Path
) -> None:
    """And every tensor is at its place."""
    written = state(variant)
    path = save_adapter(tmp_path / f"a{suffix}", written)
    found = examine(path, UNetConfig.from_dict(unet_config()))
    assert found.variant.words.startswith(variant)
    network = found.read(torch.float32).network
    assert len(network.names) == 4
    order = sorted({int(name.split(".")[0]) for name in written["ip_adapter"]})
    for number, keys in zip(order, network.keys, strict=True):
        assert torch.equal(keys.to_k_ip.weight, written["ip_adapter"][f"{number}.to_k_ip.weight"])
        assert torch.equal(keys.to_v_ip.weight, written["ip_adapter"][f"{number}.to_v_ip.weight"])
    own = network.image_proj.state_dict()
    assert own.keys() == written["image_proj"].keys()
    assert all(torch.equal(own[name], tensor) for name, tensor in written["image_proj"].items())
    assert {p.dtype for p in found.read(torch.float16).network.parameters()} == {torch.float16}


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float64], ids=str)
def test_any_floats_will_do(kind: torch.dtype, state: Callable[[str], Nested]) -> None:
    written = {part: {name: tensor.to(kind) for name, tensor in own.items()} for part, own in state("base").items()}
    own = examine(written, UNetConfig.from_dict(unet_config())).read(torch.float32).network.image_proj.state_dict()
    assert all(torch.equal(own[name], tensor.float()) for name, tensor in written["image_proj"].items())
    assert len(own) == 4


def test_a_resampler_may_have_any_depth(state: Callable[[str], Nested]) -> None:
    written = state("plus")
    kept = {k: v for k, v in written["image_proj"].items() if not k.startswith(("layers.2.", "layers.3."))}
    found = examine({**written, "image_proj": kept}, UNetConfig.from_dict(unet_config())).read(torch.float32)
    assert isinstance(found.network.image_proj, Resampler)
    assert len(found.network.image_proj.layers) == 2


def edited(part: str, **changes: Any) -> Callable[[Nested], Any]:
    """The state with tensors added to a part, or (None) taken out; '_' stands for a dot in the names."""

    def change(state: Nested) -> Any:
        own = {**state[part], **{name.replace("__", "."): value for name, value in changes.items()}}
        return {**state, part: {name: value for name, value in own.items() if value is not None}}

    return change


ONE, NAN = torch.ones(2, 2), torch.full((64, 32), float("nan"))
WRONG: dict[str, tuple[Callable[[Nested], Any], str]] = {
    "FaceID": (edited("ip_adapter", **{"1.to_q_lora.down.weight": ONE}), "is a FaceID adapter"),
    "FaceID, its projection": (
        lambda s: {**s, "image_proj": {"proj.0.weight": ONE, "proj.2.weight": ONE, "norm.weight": ONE[0]}},
        "is a FaceID adapter",
    ),
    "FaceID plus": (edited("image_proj", **{"perceiver_resampler.proj_in.weight": ONE}), "is a FaceID adapter"),
    "SDXL": (
        lambda s: {**s, "ip_adapter": {k: torch.ones(len(v), 2048) for k, v in s["ip_adapter"].items()}},
        "is made for Stable Diffusion XL",
    ),
    "a dump": (lambda _: {"image_proj_model.proj.weight": ONE, "unet.conv_in.weight": ONE}, "dump of a training run"),
    "an older dump": (lambda _: {"unet.mid_block.attn2.processor.to_k_ip.weight": ONE}, "dump of a training run"),
    "no layers": (lambda s: {"image_proj": s["image_proj"]}, r"half an IP-Adapter: it has no ip_adapter\.\*"),
    "no projection": (lambda s: {"ip_adapter": s["ip_adapter"]}, r"half an IP-Adapter: it has no image_proj\.\*"),
    "a layer missing": (edited("ip_adapter", **{"7.to_v_ip.weight": None}), r"1 tensors are missing .*7\.to_v_ip"),
    "a layer too many": (edited("ip_adapter", **{"9.to_k_ip.weight": ONE}), r"1 tensors fit nowhere .*9\.to_k_ip"),
    "a norm missing": (edited("image_proj", **{"norm.bias": None}), r"missing \(image_proj\.norm\.bias"),
    "another width": (edited("ip_adapter", **{"7.to_v_ip.weight": torch.ones(3, 32)}), r"shape \[3, 32\]"),
    "whole numbers": (
        edited("ip_adapter", **{"7.to_v_ip.weight": torch.ones(64, 32, dtype=torch.int32)}),
        r"\(int32\)",
    ),
    "not a number": (edited("ip_adapter", **{"7.to_v_ip.weight": NAN}), "not finite"),
    "no projection that is known": (lambda s: {**s, "image_proj": {"weight": ONE}}, "a kind that is not known"),
    "a projection without sides": (
        lambda s: {**s, "image_proj": {**s["image_proj"], "norm.weight": torch.tensor(1.0)}},
        "its shape is",
    ),
    "a LoRA": (lambda _: {"lora_unet_conv_in.lora_down.weight": ONE}, "is no IP-Adapter"),
    "nothing": (lambda _: {}, "found nothing"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_used_is_refused_by_name(case: str, state: Callable[[str], Nested], tmp_path: Path) -> None:
    """In memory, and in a file."""
    change, said = WRONG[case]
    wrong = change(state("base"))
    torch.save(wrong, tmp_path / "wrong.bin")
    config = UNetConfig.from_dict(unet_config())
    with pytest.raises(ModelError, match=said):
        examine(wrong, config).read(torch.float32)
    if wrong:
        with pytest.raises(ModelError, match=rf"wrong\.bin: .*{said}"):
            examine(tmp_path / "wrong.bin", config).read(torch.float32)


def test_an_adapter_of_1_5_for_a_2_x_model_names_both() -> None:
    written = {"image_proj.proj.weight": ONE, "ip_adapter.1.to_k_ip.weight": torch.ones(320, 768)}
    with pytest.raises(ModelError, match=r"for Stable Diffusion 1\.x, and this model is for Stable Diffusion 2\.x"):
        examine(written, UNetConfig.from_dict({"cross_attention_dim": 1024}))


def test_a_wrong_image_encoder_is_named_with_both_widths(state: Callable[[str], Nested]) -> None:
    config = UNetConfig.from_dict(unet_config())
    with pytest.raises(ModelError, match=r"embeddings of 20 numbers, and those of the image encoder X have 28"):
        check_encoder(examine(flat(state("base")), config), 24, 28, "X")
    with pytest.raises(ModelError, match=r"hidden states of 24 numbers, and those of the image encoder X have 32"):
        check_encoder(examine(state("plus"), config), 32, 20, "X")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"hidden_size": 1280, "projection_dim": 1024}', (1280, 1024, 224)),
        (
            '{"model_type": "clip", "projection_dim": 9, "vision_config": {"hidden_size": 8, "image_size": 32}}',
            (8, 9, 32),
        ),
        ('{"model_type": "siglip_vision_model"}', "is a 'siglip_vision_model'"),
        ("[]", "expected an object"),
        ('{"hidden_size": "x"}', "'hidden_size' is 'x'"),
    ],
)
def test_what_an_image_encoder_says_of_its_widths(content: str, expected: Any, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    if isinstance(expected, str):
        with pytest.raises(ModelError, match=expected):
            image_encoder_config(tmp_path)
    else:
        config, _ = image_encoder_config(tmp_path)
        assert (config.hidden_size, config.projection_dim, config.image_size) == expected


@pytest.mark.parametrize(
    ("scale", "said"),
    [
        ("x", "expected a finite number"),
        (True, "expected a finite number"),
        (None, "expected a finite number"),
        (float("nan"), "expected a finite number"),
        ([], "empty list"),
        ({"foo": 1}, "given for 'foo'; expected down, mid, up"),
        ({"down": {"block_1": 1.0}}, "those that read a picture are block_0"),
        ({"down": {"first": 1.0}}, "those that read a picture are block_0"),
        ({"up": {"block_1": [1.0, 2, 3]}}, "are 3; expected 2"),
        ({"up": {"block_1": []}}, "are 0; expected 2"),
        ({"up": {"block_1": [1.0, "x"]}}, "expected a finite number"),
    ],
)
def test_what_is_no_scale_is_refused(scale: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        by_layer(scale, image_layers(UNetConfig.from_dict(unet_config())))


def test_blocks_that_are_not_named_count_nothing() -> None:
    layers = image_layers(UNetConfig.from_dict(unet_config()))
    assert by_layer({}, layers) == ((0.0,),) * 4
    assert by_layer({"up": {"block_1": [0.5, 2]}}, layers) == ((0.0,), (0.5,), (2.0,), (0.0,))
    assert by_layer({"down": 0.25, "mid": [1.5]}, layers) == ((0.25,), (0.0,), (0.0,), (1.5,))
    assert by_layer({"up": {"block_1": [0.5]}}, layers) == by_layer({"up": {"block_1": 0.5}}, layers)
    assert by_layer(np.float32(0.5), layers) == by_layer(0.5, layers)
    assert by_layer([0.5, 0.7], layers) == ((0.5, 0.7),) * 4
