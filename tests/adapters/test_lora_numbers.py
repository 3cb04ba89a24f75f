"""The numbers of LoRA files in every type that files have them in, and the file that a training script writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.loras import DIALECTS, Factors, factors, merged
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import sdedit_cli
from sdedit_cli import StableDiffusionImg2ImgPipeline
from sdedit_cli.cli.main import run
from sdedit_cli.errors import ModelError


def weights(pipe: StableDiffusionImg2ImgPipeline) -> dict[tuple[str, str], Tensor]:
    """The weights of all modules that `factors` has something for."""
    return {(slot, name): getattr(pipe, slot).get_submodule(name).weight.clone() for slot, name in factors(pipe)}


def assert_merged(pipe: StableDiffusionImg2ImgPipeline, base: dict[tuple[str, str], Tensor], of: Factors) -> None:
    found = weights(pipe)
    for place, own in of.items():
        torch.testing.assert_close(found[place], merged(base[place], *own), atol=1e-6, rtol=0)
    assert len(of) > 100


EIGHT_BITS = (torch.float8_e4m3fn, torch.float8_e5m2)


@pytest.mark.parametrize("kind", EIGHT_BITS, ids=str)
def test_floats_of_eight_bits_are_numbers_as_others_are(
    kind: torch.dtype, pipe: StableDiffusionImg2ImgPipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Checkpoints are kept so, and adapters are saved in the precision of the checkpoint that they come from."""
    base, of = weights(pipe), factors(pipe)
    low = {place: (down.to(kind), up.to(kind), alpha) for place, (down, up, alpha) in of.items()}
    file = tmp_path / "low.safetensors"
    state = {key: tensor.to(kind).contiguous() for key, tensor in DIALECTS["kohya"](pipe, of).items()}
    save_file(state, file)
    pipe.load_lora_weights(file)
    read = {place: (down.float(), up.float(), alpha) for place, (down, up, alpha) in low.items()}
    assert_merged(pipe, base, read)
    assert run(["lora", "inspect", str(file)]) == 0
    assert "problems" not in capsys.readouterr().out
    pipe.unload_lora_weights()
    if kind == torch.float8_e5m2:  # the other has no infinity
        key = next(iter(state))
        with pytest.raises(ModelError, match="not finite"):
            pipe.load_lora_weights({**state, key: torch.full_like(state[key].half(), float("inf")).to(kind)})


@pytest.mark.parametrize("kind", [*EIGHT_BITS, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz], ids=str)
def test_what_is_made_of_floats_of_eight_bits_is_as_exact_as_it_is_said_to_be(
    kind: torch.dtype, folder: Path, pipe: StableDiffusionImg2ImgPipeline, tmp_path: Path
) -> None:
    """Factors that were not in a file before have no room in eight bits; those of the rarer kinds no name in files."""
    layer, generator, files = pipe.unet.get_submodule(CONV), torch.Generator().manual_seed(5), list[str]()
    base, total, name = layer.weight.clone(), torch.zeros(()), f"lora_unet_{CONV.replace('.', '_')}"
    for strength in (0.7, -0.45):
        down, up = torch.randn(2, 32, 1, 1, generator=generator), torch.randn(32, 2, 1, 1, generator=generator) * 0.1
        mid = torch.randn(2, 2, 3, 3, generator=generator)
        leaves = {"lora_down.weight": down, "lora_up.weight": up, "lora_mid.weight": mid, "alpha": torch.tensor(1.5)}
        low = {f"{name}.{leaf}": tensor.to(kind) for leaf, tensor in leaves.items()}
        files.append(str(tmp_path / f"{len(files)}.pt"))
        torch.save(low, files[-1])
        down, up, mid, alpha = (tensor.to(kind).float() for tensor in (down, up, mid, leaves["alpha"]))
        change = torch.einsum("mnkl,om,ni->oikl", mid, up.flatten(1), down.flatten(1)) * alpha / 2
        total = total + change * strength
    changes = {"convert": change, "resize": change, "merge": total}
    for to in ("kohya", "diffusers"):
        options = ["--to", to, "-m", str(folder)]
        for words in (
            ["convert", files[1], "DST"],
            ["convert", files[1], "DST", "--dtype", "fp16"],
            ["resize", files[1], "DST", "--rank", "2"],
            ["merge", "DST", "--lora", f"{files[0]}:0.7", "--lora", f"{files[1]}:-0.45"],
        ):
            out = tmp_path / f"out {to} {len(list(tmp_path.iterdir()))}.safetensors"
            assert run(["lora", *(str(out) if word == "DST" else word for word in words), *options]) == 0
            pipe.load_lora_weights(out)
            wanted = changes[words[0]]
            assert (layer.weight - base - wanted).abs().max() < 2e-3 * wanted.abs().max(), (to, words)
            pipe.unload_lora_weights()


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16], ids=str)
def test_what_becomes_of_a_middle_factor_is_rounded_once(
    kind: torch.dtype, folder: Path, pipe: StableDiffusionImg2ImgPipeline, tmp_path: Path
) -> None:
    """It is taken into the lower one: in float32, and the file is in the precision that is asked for, or its own."""
    layer, generator = pipe.unet.get_submodule(CONV), torch.Generator().manual_seed(5)
    shapes = {"lora_down": (2, 32, 1, 1), "lora_up": (32, 2, 1, 1), "lora_mid": (2, 2, 3, 3)}
    low = {leaf: torch.randn(shape, generator=generator).to(kind) for leaf, shape in shapes.items()}
    name, src = f"lora_unet_{CONV.replace('.', '_')}", tmp_path / "src.safetensors"
    save_file({f"{name}.{leaf}.weight": tensor for leaf, tensor in low.items()}, src)
    down, up, mid = (low[leaf].float() for leaf in shapes)
    change, base = torch.einsum("mnkl,om,ni->oikl", mid, up.flatten(1), down.flatten(1)), layer.weight.clone()
    commands = (
        ["convert", str(src), "DST", "--to", "diffusers"],
        ["resize", str(src), "DST", "--rank", "2"],
        ["merge", "DST", "--lora", str(src)],
    )
    for words in commands:
        for asked in (["--dtype", "fp32"], []):
            dst = tmp_path / f"{words[0]}{len(asked)}.safetensors"
            options = [*asked, "-m", str(folder)]
            assert run(["lora", *(str(dst) if word == "DST" else word for word in words), *options]) == 0
            pipe.load_lora_weights(dst)
            wrong = (layer.weight - base - change).abs().max() / change.abs().max()
            assert wrong < (1e-6 if asked else 8e-3), words
            pipe.unload_lora_weights()
            kinds = {tensor.dtype for key, tensor in load_file(dst).items() if not key.endswith(".alpha")}
            assert kinds == {torch.float32 if asked else kind}


CONV = "down_blocks.0.resnets.0.conv1"
LAYER = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"


def test_an_alpha_that_nothing_is_divided_by_may_be_infinite(
    pipe: StableDiffusionImg2ImgPipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """LyCORIS writes the rank of a whole LoKr, 100,000 by custom, and halves have no such number."""
    layer = pipe.unet.get_submodule(LAYER)
    before, (rows, columns) = layer.weight.clone(), layer.weight.shape
    first, second = (
        torch.randn(side, generator=torch.Generator().manual_seed(3)) * 0.1
        for side in ((4, 4), (rows // 4, columns // 4))
    )
    name = f"lora_unet_{LAYER.replace('.', '_')}"
    state = {f"{name}.lokr_w1": first, f"{name}.lokr_w2": second, f"{name}.alpha": torch.tensor(1e5)}
    file = tmp_path / "whole.safetensors"
    save_file({key: tensor.half() for key, tensor in state.items()}, file)
    pipe.load_lora_weights(file)
    change = torch.kron(first.half().float(), second.half().float())
    torch.testing.assert_close(layer.weight - before, change, atol=1e-6, rtol=1e-4)
    assert run(["lora", "inspect", str(file)]) == 0
    assert "not finite" not in capsys.readouterr().out
    with pytest.raises(ModelError, match="alpha' has numbers that are not finite"):
        pipe.load_lora_weights({**state, f"{name}.alpha": torch.tensor(float("nan"))}, adapter_name="damaged")
    halves = {key.replace("w2", "w2_a"): tensor.half() for key, tensor in state.items()}
    halves[f"{name}.lokr_w2_b"] = torch.eye(columns // 4).half()
    with pytest.raises(ModelError, match="alpha' has numbers that are not finite"):
        pipe.load_lora_weights(halves, adapter_name="product")


@pytest.mark.parametrize("marker", [torch.tensor(True), torch.tensor(1), torch.tensor(1.0)], ids=repr)
def test_the_mark_of_scaled_rotations_is_of_any_type(marker: Tensor, pipe: StableDiffusionImg2ImgPipeline) -> None:
    layer = pipe.unet.get_submodule(LAYER)
    blocks = layer.weight.shape[1] // 4
    name = f"lora_unet_{LAYER.replace('.', '_')}.oft_R"
    vectors = torch.randn(blocks, 6, generator=torch.Generator().manual_seed(3)) * 0.1
    made: list[Tensor] = []
    for mark in (marker, torch.zeros(1)):
        pipe.load_lora_weights({f"{name}.weight": vectors, f"{name}.scaled_oft": mark})
        made.append(layer.weight.clone())
        pipe.unload_lora_weights()
    assert torch.equal(*made)
    assert not torch.equal(made[0], layer.weight)


@pytest.mark.parametrize("leaf", ["diff", "lora_down.weight", "lora_up.weight", "diff_b"])
@pytest.mark.parametrize(
    "module", ["clip_l.transformer.text_projection", "clip_h.transformer.text_model.encoder.layers.23.mlp.fc1"]
)
def test_parts_of_text_encoders_that_nothing_uses_are_passed_over(
    module: str, leaf: str, pipe: StableDiffusionImg2ImgPipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """ComfyUI extracts from all that it has loaded."""
    base, of = weights(pipe), factors(pipe)
    state = {**DIALECTS["ComfyUI"](pipe, of), f"text_encoders.{module}.{leaf}": torch.ones(32, 32)}
    pipe.load_lora_weights(state)
    assert_merged(pipe, base, of)
    pipe.unload_lora_weights()
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, tmp_path / "a.safetensors")
    assert run(["lora", "inspect", str(tmp_path / "a.safetensors"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["unmatched"] == []
    other = f"text_encoders.clip_l.transformer.text_model.encoder.layers.23.mlp.fc1.{leaf}"
    with pytest.raises(ModelError, match="1 of"):
        pipe.load_lora_weights({**state, other: torch.ones(32, 32)})


@pytest.mark.parametrize("number", [2, 2.0, np.float32(2), np.int64(2)], ids=repr)
def test_alphas_may_be_plain_numbers_where_a_file_can_hold_them(
    number: Any, pipe: StableDiffusionImg2ImgPipeline, tmp_path: Path
) -> None:
    base, of = weights(pipe), factors(pipe, alpha=2.0)
    state: dict[str, Any] = DIALECTS["kohya"](pipe, of)
    plain = {key: number if key.endswith(".alpha") else value for key, value in state.items()}
    torch.save(plain, tmp_path / "lora.pt")
    for source in (tmp_path / "lora.pt", plain):
        pipe.load_lora_weights(source)
        assert_merged(pipe, base, of)
        pipe.unload_lora_weights()
    for stranger in (True, "2", None, np.zeros((2, 2))):
        with pytest.raises(TypeError, match=r"as 'lora_unet_.*'; expected a tensor"):
            pipe.load_lora_weights({**plain, next(iter(plain)): stranger})
    large = next(key for key in plain if key.endswith(".alpha"))
    torch.save({**plain, large: 10**400}, tmp_path / "large.pt")
    with pytest.raises(ModelError, match=r"alpha' has numbers that are not finite"):
        pipe.load_lora_weights(tmp_path / "large.pt")


def test_a_training_script_saves_layers_without_a_pipeline(
    pipe: StableDiffusionImg2ImgPipeline, tmp_path: Path
) -> None:
    """It has networks and no pipeline of them yet, so it asks the class; and it may have a module of layers."""
    import diffusers

    layer = pipe.unet.get_submodule("time_embedding.linear_1")
    out, inputs = layer.weight.shape
    trained = nn.ModuleDict({"lora_A": nn.Linear(inputs, 4, bias=False), "lora_B": nn.Linear(4, out, bias=False)})
    whole = nn.ModuleDict({"time_embedding": nn.ModuleDict({"linear_1": trained})})
    text = {"encoder.layers.0.mlp.fc1.lora_A.weight": torch.ones(2, 32)}
    for library in (diffusers, sdedit_cli):
        place = tmp_path / library.__name__
        library.StableDiffusionImg2ImgPipeline.save_lora_weights(place, whole, text_encoder_lora_layers=text)
    written = [load_file(place / "pytorch_lora_weights.safetensors") for place in sorted(tmp_path.iterdir())]
    assert [sorted(one) for one in written] == [sorted(written[0])] * 2
    assert all(torch.equal(written[0][key], written[1][key]) for key in written[0])
    before = layer.weight.clone()
    StableDiffusionImg2ImgPipeline.save_lora_weights(save_directory=tmp_path / "one", unet_lora_layers=whole)
    pipe.load_lora_weights(tmp_path / "one")
    product = trained["lora_B"].weight @ trained["lora_A"].weight
    torch.testing.assert_close(layer.weight - before, product, atol=1e-6, rtol=0)


def test_strengths_may_come_out_of_an_array(pipe: StableDiffusionImg2ImgPipeline) -> None:
    """As steps of a ramp do."""
    base, of = weights(pipe), factors(pipe, alpha=2.0)
    pipe.load_lora_weights(DIALECTS["kohya"](pipe, of), "a")
    half = {place: (down, up * 0.5, alpha) for place, (down, up, alpha) in of.items()}
    one = [torch.tensor(0.5)]
    for weight in (np.float32(0.5), torch.tensor(0.5), one, {"unet": np.float32(0.5), "text_encoder": np.float16(0.5)}):
        pipe.set_adapters("a", weight)
        assert_merged(pipe, base, half)


@pytest.mark.parametrize("kind", [torch.int8, torch.bool, torch.complex64], ids=str)
def test_factors_that_are_no_floats_are_refused(kind: torch.dtype, pipe: StableDiffusionImg2ImgPipeline) -> None:
    """Those of quantised files mean something else than their numbers."""
    state = DIALECTS["kohya"](pipe, factors(pipe))
    key = next(name for name in state if name.endswith("lora_up.weight"))
    with pytest.raises(ModelError, match="numbers; expected floating point"):
        pipe.load_lora_weights({**state, key: torch.ones(state[key].shape).to(kind)})
    assert not pipe.get_list_adapters()
