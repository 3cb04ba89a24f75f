"""The name tables against the tensor lists of the real models and against the oracle's converters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.names import CONFIGS, MODELS, SCHEDULE_BUFFERS, ldm_table, real_config, real_keys
from hypothesis import given
from hypothesis import strategies as st

from sdedit_cli.configs.unet import UNetConfig
from sdedit_cli.configs.vae import VAEConfig
from sdedit_cli.names import ldm
from sdedit_cli.names.table import Origin, flax, kohya, modules, origins
from sdedit_cli.names.text import openclip_table
from sdedit_cli.names.unet import unet_table
from sdedit_cli.names.vae import vae_table
from sdedit_cli.weights.checkpoint.renamed import OPERATIONS

PARTS = [(model, component) for model in MODELS for component in CONFIGS[model]]
each_part = pytest.mark.parametrize(("model", "component"), PARTS)


def shapes_of(found: dict[str, Origin], shapes: Any) -> dict[str, tuple[int, ...]]:
    return {n: OPERATIONS[o.operation].shape([shapes[s] for s in o.sources], o) for n, o in found.items()}


@each_part
def test_every_tensor_of_ours_comes_from_the_single_file(model: str, component: str) -> None:
    """Names and shapes: what the table takes from the LDM list is exactly the component's state dict."""
    keys = real_keys(model)
    found = origins(ldm_table(model, component), keys["ldm"])
    assert shapes_of(found, keys["ldm"]) == keys[component]


@each_part
def test_there_and_back_is_the_identity(model: str, component: str) -> None:
    """back(forth(x)) == x on the names of the real models, and no two names meet in one."""
    keys, table = real_keys(model), ldm_table(model, component)
    back = origins(table, keys[component], to="foreign")
    assert shapes_of(back, keys[component]).items() <= keys["ldm"].items()
    assert set(origins(table, back)) == set(keys[component])
    assert sum(len(origin.sources) for origin in back.values()) == len(keys[component])


@pytest.mark.parametrize("model", ["sd15", "sdxl", "sdxl_refiner", "sd21"])
def test_the_oracles_unet_converter_gives_the_same_names_and_tensors(model: str) -> None:
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    keys = real_keys(model)
    tagged, by_id = tags(keys["ldm"])
    oracle = convert_ldm_unet_checkpoint(tagged, real_config(model, "unet").to_dict())
    ours = origins(ldm_table(model, "unet"), keys["ldm"])
    assert {name: by_id[id(t)] for name, t in oracle.items()} == {name: o.sources[0] for name, o in ours.items()}


def test_the_oracles_vae_converter_gives_the_same_names() -> None:
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    keys = real_keys("sd15")
    tagged, _ = tags(keys["ldm"])
    oracle = convert_ldm_vae_checkpoint(tagged, real_config("sd15", "vae").to_dict())
    assert {name: tuple(t.shape) for name, t in oracle.items()} == keys["vae"]


def test_an_operation_on_tensors_gives_the_shape_it_announced() -> None:
    origin = Origin(("a", "b", "c"), part=1, parts=3)
    tensors = {1: torch.rand(6), 2: torch.rand(6, 4), 4: torch.rand(6, 4, 1, 1)}
    takes = {"squeeze": (2, 4), "unsqueeze": (2,), "transpose": (2,)}
    for name, operation in OPERATIONS.items():
        for ndim in takes.get(name, (1, 2, 4)):
            group = [tensors[ndim]] * (3 if name == "stack" else 1)
            expected = operation.shape([tuple(t.shape) for t in group], origin)
            assert tuple(operation.apply(group, origin).shape) == expected, (name, ndim)


def test_stacked_tensors_come_apart_and_together_again() -> None:
    whole = torch.rand(12, 4)
    split = [OPERATIONS["part"].apply([whole], Origin(("w",), "part", i, 3)) for i in range(3)]
    assert torch.equal(OPERATIONS["stack"].apply(split, Origin(("q", "k", "v"), "stack", 0, 3)), whole)


def test_the_ema_copy_of_the_real_unets_has_a_name_for_each_tensor() -> None:
    """Dropping the dots must not make two names one, or an EMA copy could not be told apart."""
    assert ldm.ema_name(ldm.UNET + "input_blocks.0.0.weight") == "model_ema.diffusion_modelinput_blocks00weight"
    for model in MODELS:
        unet = [name for name in real_keys(model)["ldm"] if name.startswith(ldm.UNET)]
        assert len({ldm.ema_name(name) for name in unet}) == len(unet)


def test_the_numbers_of_tensors_that_real_files_are_known_for() -> None:
    counts = {model: len(real_keys(model)["ldm"]) for model in ("sd15", "sd21", "sdxl")}
    assert counts == {"sd15": 1145, "sd21": 1242, "sdxl": 2515}
    assert counts["sd15"] - len(SCHEDULE_BUFFERS) == 1133  # pruned files leave the schedule out


def test_kohya_names_of_both_namings_lead_to_our_modules() -> None:
    names = kohya(unet_table(real_config("sdxl", "unet")))
    ours = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    assert names["down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"] == ours
    assert names["input_blocks_4_1_transformer_blocks_0_attn1_to_q"] == ours
    text = kohya(openclip_table(real_config("sd21", "text_encoder")))
    assert text["text_model_encoder_layers_0_self_attn_q_proj"] == "text_model.encoder.layers.0.self_attn.q_proj"


@each_part
def test_no_two_modules_share_a_kohya_name(model: str, component: str) -> None:
    table = ldm_table(model, component)
    names = modules(table)
    assert len({name.replace(".", "_") for name in names}) == len(names)


def test_flax_names_join_a_list_and_its_index() -> None:
    table = flax(unet_table(real_config("sd15", "unet")))
    found = {
        pair.foreign: pair.ours[0]
        for pair in table
        if pair.ours[0].startswith("down_blocks.0.attentions.1.transformer_blocks.0")
    }
    start = "down_blocks_0.attentions_1.transformer_blocks_0"
    assert {f"{start}.attn1.to_out_0", f"{start}.ff.net_0.proj", f"{start}.ff.net_2", f"{start}.norm1"} <= set(found)


CHANNELS = st.lists(st.sampled_from([32, 64, 96]), min_size=1, max_size=4)


@given(CHANNELS, st.integers(1, 3), st.integers(1, 3), st.data())
def test_unet_tables_are_bijections_for_any_config(channels: list[int], layers: int, depth: int, data: Any) -> None:
    attends = data.draw(st.lists(st.booleans(), min_size=len(channels), max_size=len(channels)))
    config = UNetConfig(
        block_out_channels=tuple(channels),
        layers_per_block=layers,
        transformer_layers_per_block=depth,
        down_block_types=tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends),
        up_block_types=tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
    )
    assert_bijection(unet_table(config))


@given(CHANNELS, st.integers(1, 3))
def test_vae_tables_are_bijections_for_any_config(channels: list[int], layers: int) -> None:
    blocks = len(channels)
    config = VAEConfig(
        block_out_channels=tuple(channels),
        layers_per_block=layers,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
    )
    assert_bijection(vae_table(config))


def assert_bijection(table: Any) -> None:
    assert len({pair.foreign for pair in table}) == len(table)
    names = modules(table)
    assert len(set(names)) == len(names)


def tags(shapes: dict[str, tuple[int, ...]]) -> tuple[dict[str, torch.Tensor], dict[int, str]]:
    """Tensors without memory, and the name that each was given: the oracle's converters pass them through."""
    tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    return tensors, {id(tensor): name for name, tensor in tensors.items()}
