"""Adapters written in each naming mean what they meant; the reference reads what is written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.adapters import drawn, example, forms
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from sdedit_cli.adapters.apply import check_fits
from sdedit_cli.adapters.architecture import Architecture, likeliest
from sdedit_cli.adapters.deltas import Misfit, bias_delta, check, weight_delta
from sdedit_cli.adapters.dialects import Module
from sdedit_cli.adapters.kinds.leaves import Scaling
from sdedit_cli.adapters.lora import Adapter, Patch, read_adapter
from sdedit_cli.adapters.open import open_adapter
from sdedit_cli.adapters.write import Dialect, peft_files, written
from sdedit_cli.cli.main import run
from sdedit_cli.configs.clip import CLIPTextConfig
from sdedit_cli.configs.unet import UNetConfig
from sdedit_cli.errors import ModelError

# Some layers are 8 × 12, kernels of 3 × 3 among them: what the examples of kinds are for.
TINY = Architecture(
    "tiny",
    UNetConfig(
        block_out_channels=(12, 8),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=2,
        cross_attention_dim=12,
    ),
    CLIPTextConfig(vocab_size=20, hidden_size=12, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2),
)
MODULES: list[Module] = [(slot, name) for slot in ("unet", "text_encoder") for name in TINY.modules(slot)]
LORA_FORMS = ("lora", "lora_4d", "locon_mid", "dora_outputs", "dora_peft", "lora_bias")
HELD: Mapping[str, tuple[str, ...]] = {"kohya": (), "diffusers": LORA_FORMS, "peft": LORA_FORMS}


def leaves_for(form: str, module: Module, seed: int) -> dict[str, Tensor] | None:
    """Random leaves of a form for a module, None where the form has none for a weight of that shape."""
    shape = tuple(TINY.weight_shape(module))
    made = example("lora", shape, drawn(seed)) if form == "lora_bias" else _fitting(form, shape, seed)
    if form == "lora_bias" and made and TINY.shape(module, "bias"):
        made["up_bias"] = torch.randn(shape[0], generator=drawn(seed))
    return made


def _fitting(form: str, shape: tuple[int, ...], seed: int) -> dict[str, Tensor] | None:
    if form not in forms(shape):
        return None
    try:
        made = example(form, shape, drawn(seed))
        check(made, torch.Size(shape))
    except (Misfit, RuntimeError, ZeroDivisionError):
        return None
    return made


def deltas(adapter: Adapter) -> dict[tuple[Module, str], Tensor]:
    """What each parameter is changed by, from a base that is fixed."""
    found: dict[tuple[Module, str], Tensor] = {}
    for module, patch in adapter.patches.items():
        for leaf, delta in (("weight", weight_delta), ("bias", bias_delta)):
            shape = TINY.shape(module, leaf)
            made = delta(patch.leaves, torch.randn(shape, generator=drawn(9)), patch.scaling) if shape else None
            if made is not None:
                found[module, leaf] = made
    return found


def on_disk(adapter: Adapter, to: Dialect, folder: Path, order: Any = sorted) -> Path:
    """The files of an adapter, their keys in an order."""
    folder.mkdir()
    for place, one in written(adapter, to, TINY.weight_shape).items():
        tensors = {key: one.tensors[key].contiguous() for key in order(one.tensors)}
        weights, config = peft_files(place) if one.config is not None else ("adapter.safetensors", "")
        (folder / weights).parent.mkdir(exist_ok=True)
        save_file(tensors, folder / weights, dict(one.metadata))
        if one.config is not None:
            (folder / config).write_text(json.dumps(one.config))
    return folder


COMPARED = {"modules": 0}
FORMS = sorted({*forms((8, 12, 3, 3)), "lora_bias"})


@settings(max_examples=60, derandomize=True)
@given(data=st.data())
def test_what_is_written_and_read_means_the_same(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Any modules x kinds x dialects x precisions x alphas, with the keys in any order."""
    to: Dialect = data.draw(st.sampled_from(["kohya", "diffusers", "peft"]))
    dtype = data.draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
    known = HELD[to] or FORMS
    # The other two hold magnitudes of all modules or of none.
    with_magnitudes = to != "kohya" and data.draw(st.booleans())
    chosen = [f for f in known if to == "kohya" or f.startswith("dora") == with_magnitudes]
    scaling = data.draw(st.sampled_from([Scaling(), Scaling(3.0), Scaling(5.5, True), Scaling(rank_stabilised=True)]))
    patches: dict[Module, Patch] = {}
    for module in data.draw(st.lists(st.sampled_from(MODULES), min_size=1, max_size=6, unique=True)):
        leaves = leaves_for(data.draw(st.sampled_from(chosen)), module, data.draw(st.integers(0, 99)))
        if leaves is None:
            continue
        factored = {"down", "hada_w1_b", "lokr_w2_b", "lokr_w1_b", "a1"} & leaves.keys()
        if factored and data.draw(st.booleans()):
            leaves["alpha"] = torch.tensor(data.draw(st.sampled_from([0.5, 1.0, 3.0, 94.0])))
        cast = {k: t.to(dtype) if t.is_floating_point() and k != "ia3_on_input" else t for k, t in leaves.items()}
        patches[module] = Patch(cast, scaling if factored else Scaling())
    if not patches:
        return
    adapter = Adapter(Path("drawn"), patches, 0, metadata={"ss_output_name": "x", "sshs_model_hash": "0"})
    keys = data.draw(st.randoms(use_true_random=False))
    path = on_disk(
        adapter, to, tmp_path_factory.mktemp("a") / "f", lambda names: keys.sample(sorted(names), len(names))
    )
    back = read_adapter(path, TINY.unet, TINY.text)
    wanted, found = deltas(adapter), deltas(back)
    assert wanted.keys() == found.keys() - {key for key in found if not found[key].any()}
    for key, delta in wanted.items():
        torch.testing.assert_close(found[key], delta, rtol=1e-5, atol=1e-5)
        COMPARED["modules"] += 1
    if to != "peft" or len({slot for slot, _ in patches}) == 1:
        assert back.metadata["ss_output_name"] == "x"
        assert "sshs_model_hash" not in back.metadata


def test_the_property_compared_something() -> None:
    assert COMPARED["modules"] > 80


@pytest.mark.parametrize("to", ["diffusers", "peft"])
@pytest.mark.parametrize("form", [form for form in FORMS if form not in LORA_FORMS])
def test_kinds_that_a_naming_cannot_hold_are_refused_by_name(form: str, to: Dialect) -> None:
    found = ((module, leaves_for(form, module, 1)) for module in MODULES)
    module, leaves = next((module, leaves) for module, leaves in found if leaves is not None)
    with pytest.raises(ModelError, match=rf"{module[1]} (is|has) .*convert it --to kohya"):
        written(Adapter(Path("x"), {module: Patch(leaves)}, 0), to, TINY.weight_shape)


@pytest.mark.parametrize("to", ["kohya", "diffusers", "peft"])
def test_zeros_as_the_bias_of_a_layer_without_one_are_none(to: Dialect, tmp_path: Path) -> None:
    """PEFT has a bias of all layers or of none, and so have its own files; other numbers would be lost there."""
    without, with_bias = (
        next(module for module in MODULES if bool(TINY.shape(module, "bias")) == there) for there in (False, True)
    )
    patches = {module: Patch(leaves_for("lora", module, 1) or {}) for module in (without, with_bias)}
    patches[with_bias] = Patch(leaves_for("lora_bias", with_bias, 1) or {})
    path = on_disk(Adapter(Path("x"), patches, 0), to, tmp_path / "a")
    told = likeliest(open_adapter(path)[0], [TINY])
    assert told[0] is TINY
    back = read_adapter(path, TINY.unet, TINY.text)
    check_fits(back, TINY.shape)
    assert {key for key, delta in deltas(back).items() if delta.any()} == {
        (without, "weight"), (with_bias, "weight"), (with_bias, "bias"),
    }  # fmt: skip
    again = read_adapter(on_disk(back, "kohya", tmp_path / "b"), TINY.unet, TINY.text)
    assert "up_bias" not in again.patches[without].leaves
    bad = Patch({**patches[without].leaves, "up_bias": torch.ones(TINY.weight_shape(without)[0])})
    other = read_adapter(on_disk(Adapter(Path("x"), {without: bad}, 0), to, tmp_path / "c"), TINY.unet, TINY.text)
    with pytest.raises(ModelError, match=rf"{without[1]} \(it changes the bias of a layer that has none\)"):
        check_fits(other, TINY.shape)


def test_magnitudes_of_some_modules_are_refused_where_all_must_have_them() -> None:
    two = [module for module in MODULES if module[0] == "unet" and len(TINY.weight_shape(module)) == 2][:2]
    patches = {
        two[0]: Patch(leaves_for("dora_outputs", two[0], 1) or {}),
        two[1]: Patch(leaves_for("lora", two[1], 1) or {}),
    }
    with pytest.raises(ModelError, match="1 of 2 modules are no DoRA"):
        written(Adapter(Path("x"), patches, 0), "peft", TINY.weight_shape)


@pytest.mark.parametrize("form", ["loha", "lokr_first", "lora_4d"])
def test_magnitudes_of_outputs_have_the_dimensions_of_the_weight(form: str) -> None:
    """Under kohya's names, whatever the kind that they stand beside and however its factors lie."""
    for size in (2, 4):
        drawn_for = ((m, leaves_for(form, m, 1)) for m in MODULES if len(TINY.weight_shape(m)) == size)
        module, leaves = next((module, leaves) for module, leaves in drawn_for if leaves)
        out = TINY.weight_shape(module)[0]
        patches = {module: Patch({**leaves, "magnitude": torch.rand(out) + 0.5})}
        made = written(Adapter(Path("x"), patches, 0), "kohya", TINY.weight_shape)[""].tensors
        (scale,) = (tensor for key, tensor in made.items() if key.endswith(".dora_scale"))
        assert tuple(scale.shape) == (out, *[1] * (size - 1))


def test_every_alpha_is_kept_exactly(tmp_path: Path) -> None:
    """Kohya's to diffusers' or PEFT's and back: the same numbers in each module, odd ones in half precision too."""
    alphas = [0.1, 1.0, 94.0, 3.5, 1e-3]
    patches = {
        module: Patch({**(leaves_for("lora", module, n) or {}), "alpha": torch.tensor(alphas[n % 5]).half()})
        for n, module in enumerate(MODULES)
    }
    adapter = Adapter(Path("x"), patches, 0)
    for to in ("diffusers", "peft"):
        back = read_adapter(on_disk(adapter, to, tmp_path / to), TINY.unet, TINY.text)
        again = read_adapter(on_disk(back, "kohya", tmp_path / f"{to} back"), TINY.unet, TINY.text)
        assert {m: float(p.leaves["alpha"]) for m, p in again.patches.items()} == {
            m: float(p.leaves["alpha"]) for m, p in patches.items()
        }
    assert len(patches) > 60


@pytest.fixture(scope="module")
def drawn_lora(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A tiny pipeline of the reference's, and a LoRA of ranks and alphas that differ, of all layers that PEFT has."""
    from helpers.pipelines import write_checkpoint

    folder = tmp_path_factory.mktemp("oracle") / "model"
    return folder, write_checkpoint(folder, "sd15")


def oracle_adapter(folder: Path) -> tuple[Adapter, Architecture]:
    from sdedit_cli.weights.checkpoint import open_checkpoint

    parts = open_checkpoint(folder).components
    architecture = Architecture.of(parts["unet"].config, parts["text_encoder"].config, "oracle")
    generator = torch.Generator().manual_seed(4)
    patches: dict[Module, Patch] = {}
    for slot in ("unet", "text_encoder"):
        for n, name in enumerate(architecture.modules(slot)):
            out, inputs, *kernel = architecture.weight_shape((slot, name))
            rank = 2 + n % 3
            patches[slot, name] = Patch(
                {
                    "down": torch.randn(rank, inputs, *kernel, generator=generator) * 0.2,
                    "up": torch.randn(out, rank, *[1] * len(kernel), generator=generator) * 0.2,
                    "alpha": torch.tensor(1.0 + n % 4),
                }
            )
    return Adapter(Path("x"), patches, 0), architecture


def parameters(network: Any) -> dict[str, Tensor]:
    return {name.removeprefix("text_model."): t.detach().clone() for name, t in network.named_parameters()}


def wanted_weights(before: dict[str, Tensor], adapter: Adapter, slot: str) -> dict[str, Tensor]:
    made = dict(before)
    for (own, name), patch in adapter.patches.items():
        key = f"{name.removeprefix('text_model.')}.weight"
        if own == slot:
            delta = weight_delta(patch.leaves, before[key])
            assert delta is not None
            made[key] = before[key] + delta
    return made


def test_the_reference_reads_what_is_written_for_it(drawn_lora: tuple[Path, Any], tmp_path: Path) -> None:
    """Every module's own rank and alpha: its fused weights are those of the formula."""
    folder, pipe = drawn_lora
    adapter, architecture = oracle_adapter(folder)
    (one,) = written(adapter, "diffusers", architecture.weight_shape).values()
    save_file(
        {k: t.contiguous() for k, t in one.tensors.items()},
        tmp_path / "l.safetensors",
        {"format": "pt", **one.metadata},
    )
    before = {slot: parameters(getattr(pipe, slot)) for slot in ("unet", "text_encoder")}
    pipe.load_lora_weights(tmp_path, weight_name="l.safetensors")
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    compared = 0
    for slot, state in before.items():
        wanted = wanted_weights(state, adapter, slot)
        found = parameters(getattr(pipe, slot))
        assert found.keys() == wanted.keys()
        for name in wanted:
            torch.testing.assert_close(found[name], wanted[name], atol=1e-5, rtol=1e-5)
            compared += not torch.equal(wanted[name], state[name])
    pipe.unfuse_lora()
    assert compared == len(adapter.patches) > 100


def test_peft_reads_the_folders_that_are_written_for_it(drawn_lora: tuple[Path, Any], tmp_path: Path) -> None:
    from diffusers import UNet2DConditionModel
    from peft import PeftModel

    folder, _ = drawn_lora
    adapter, architecture = oracle_adapter(folder)
    for place, one in written(adapter, "peft", architecture.weight_shape).items():
        (tmp_path / place).mkdir()
        weights, config = peft_files(place)
        save_file({k: t.contiguous() for k, t in one.tensors.items()}, tmp_path / weights, {"format": "pt"})
        (tmp_path / config).write_text(json.dumps(one.config))
    unet: Any = UNet2DConditionModel.from_pretrained(folder / "unet")
    before = parameters(unet)
    merged = PeftModel.from_pretrained(unet, str(tmp_path / "unet")).merge_and_unload()
    found, wanted = parameters(merged), wanted_weights(before, adapter, "unet")
    assert found.keys() == wanted.keys()
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], atol=1e-5, rtol=1e-5)
    assert load_file(tmp_path / "text_encoder/adapter_model.safetensors")


def test_the_family_is_that_of_a_model_whose_shapes_fit_and_of_text_encoders_by_their_width() -> None:
    from sdedit_cli.adapters.architecture import KNOWN
    from sdedit_cli.adapters.dialects import family_of
    from sdedit_cli.weights.formats.source import MemorySource

    def told(state: dict[str, Tensor]) -> str:
        found = likeliest(MemorySource(state, path=Path("x")))
        return found[0].title if found else ""

    to_q = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    assert told({f"{to_q}.lora_down.weight": torch.ones(2, 32), f"{to_q}.lora_up.weight": torch.ones(32, 2)}) == ""
    assert told({f"{to_q}.lora_down.weight": torch.ones(2, 320), f"{to_q}.lora_up.weight": torch.ones(320, 2)}) != ""
    assert told({f"{to_q}.lora_up.weight": torch.ones(2, 2)}) != "", "half a pair says nothing of shapes"
    for known, width in zip(KNOWN, (768, 1024), strict=True):
        for name in ("lora_te_text_model_encoder_layers_0_self_attn_q_proj", "text_encoder.encoder.layers.0.mlp.fc1"):
            assert family_of({f"{name}.lora_down.weight": (2, width)}) == known.title
    assert family_of({"model.layers.0.self_attn.q_proj.lora_A.weight": (2, 1024)}) == ""


def test_where_shapes_fit_two_families_the_metadata_decides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A 1x1 convolution and a linear layer have the same factors, and self-attention is as wide in 1.x and 2.x."""
    projection = "lora_unet_down_blocks_0_attentions_0_proj_in"
    state = {f"{projection}.lora_down.weight": torch.ones(2, 320), f"{projection}.lora_up.weight": torch.ones(320, 2)}
    for key, value, family, dims in (
        ("ss_base_model_version", "sd_v2_v", "Stable Diffusion 2.x", 2),
        ("modelspec.architecture", "stable-diffusion-v2-512/lora", "Stable Diffusion 2.x", 2),
        ("ss_v2", "True", "Stable Diffusion 2.x", 2),
        ("ss_v2", "False", "Stable Diffusion 1.x", 4),
        ("ss_output_name", "sd_v2", "Stable Diffusion 1.x or Stable Diffusion 2.x", 4),
    ):
        place = tmp_path / value.replace("/", "_")
        save_file(state, f"{place}.safetensors", {key: value})
        for command in (["lora", "inspect"], ["info"]):
            assert run([*command, f"{place}.safetensors", "--json"]) == 0
            assert json.loads(capsys.readouterr().out)["family"] == family
        assert run(["lora", "convert", f"{place}.safetensors", str(place), "--to", "peft"]) == 0
        capsys.readouterr()
        assert all(tensor.dim() == dims for tensor in load_file(place / "adapter_model.safetensors").values())


def test_text_encoders_in_comfyuis_names_make_no_file_one_of_a_transformer_model() -> None:
    from sdedit_cli.adapters.dialects import family_of

    text = "text_encoders.clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.lora_down.weight"
    unet = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.lora_down.weight"
    assert family_of({text: (4, 768), unet: (4, 768)}) == "Stable Diffusion 1.x"
    assert family_of({"transformer.blocks.0.lora_A.weight": (4, 768)}) == "a transformer model"
