"""What we save, the oracle loads; what is on the disk is complete or not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL as OracleVAE
from diffusers import StableDiffusionImg2ImgPipeline as OraclePipeline
from diffusers import UNet2DConditionModel as OracleUNet
from torch import nn

from sdedit_cli.configs.clip import CLIPTextConfig
from sdedit_cli.configs.unet import UNetConfig
from sdedit_cli.configs.vae import VAEConfig
from sdedit_cli.errors import OutputError, UsageError
from sdedit_cli.nn import AutoencoderKL, CLIPTextModel, UNet2DCondition
from sdedit_cli.noise import Scheduler
from sdedit_cli.text import Tokenizer
from sdedit_cli.weights import load_networks
from sdedit_cli.weights.write.save import save_components

UNET = UNetConfig(
    sample_size=8,
    block_out_channels=(8, 16),
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    layers_per_block=1,
    norm_num_groups=4,
    cross_attention_dim=16,
    attention_head_dim=2,
)
VAE = VAEConfig(
    block_out_channels=(8, 16),
    down_block_types=("DownEncoderBlock2D",) * 2,
    up_block_types=("UpDecoderBlock2D",) * 2,
    norm_num_groups=4,
)
TEXT = CLIPTextConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)


def parts() -> dict[str, Any]:
    torch.manual_seed(0)
    return {
        "unet": UNet2DCondition(UNET),
        "vae": AutoencoderKL(VAE),
        "text_encoder": CLIPTextModel(TEXT),
        "tokenizer": Tokenizer.packaged(),
        "scheduler": Scheduler.named("euler"),
        "safety_checker": None,
        "feature_extractor": None,
    }


def same(a: nn.Module, b: nn.Module) -> bool:
    states = a.state_dict(), b.state_dict()
    return states[0].keys() == states[1].keys() and all(
        torch.equal(states[0][name], states[1][name]) for name in states[0]
    )


def test_the_oracle_loads_a_saved_folder(tmp_path: Path) -> None:
    saved = parts()
    save_components(tmp_path / "m", saved, requires_safety_checker=False)
    pipe = OraclePipeline.from_pretrained(tmp_path / "m", local_files_only=True)
    assert same(pipe.unet, saved["unet"])
    assert same(pipe.vae, saved["vae"])
    texts = {name.removeprefix("text_model."): t for name, t in pipe.text_encoder.state_dict().items()}
    ours = {name.removeprefix("text_model."): t for name, t in saved["text_encoder"].state_dict().items()}
    assert texts.keys() >= ours.keys()
    assert all(torch.equal(texts[name], tensor) for name, tensor in ours.items())
    assert type(pipe.scheduler).__name__ == "EulerDiscreteScheduler"
    assert pipe.tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]


@pytest.mark.parametrize(
    "options", [{}, {"variant": "fp16"}, {"max_shard_size": "40KB"}, {"variant": "fp16", "max_shard_size": 40_000}]
)
def test_variants_and_shards_are_read_by_us_and_by_the_oracle(options: dict[str, Any], tmp_path: Path) -> None:
    saved = parts()
    save_components(tmp_path, saved, **options)
    loaded = load_networks(tmp_path, variant=options.get("variant"))
    assert loaded.unet is not None
    assert same(loaded.unet, saved["unet"])
    oracle = OracleUNet.from_pretrained(tmp_path / "unet", variant=options.get("variant"))
    assert same(oracle, saved["unet"])
    shards = list((tmp_path / "unet").glob("*-of-*"))
    assert (len(shards) > 1) == ("max_shard_size" in options)


def test_dtypes_are_kept(tmp_path: Path) -> None:
    vae = AutoencoderKL(VAE).to(torch.bfloat16)
    save_components(tmp_path, {"vae": vae})
    assert same(load_networks(tmp_path).vae, vae)
    assert same(OracleVAE.from_pretrained(tmp_path, torch_dtype=torch.bfloat16), vae)


def test_saving_again_leaves_nothing_of_the_last_time(tmp_path: Path) -> None:
    first, second = AutoencoderKL(VAE), AutoencoderKL(VAE)
    save_components(tmp_path, {"vae": first}, max_shard_size="20KB")
    save_components(tmp_path, {"vae": second})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "diffusion_pytorch_model.safetensors"]
    save_components(tmp_path, {"vae": first}, max_shard_size="40KB")
    assert not (tmp_path / "diffusion_pytorch_model.safetensors").exists()
    assert same(load_networks(tmp_path).vae, first)


def test_a_model_can_be_saved_over_the_files_that_it_is_mapped_from(tmp_path: Path) -> None:
    save_components(tmp_path, {"vae": AutoencoderKL(VAE)})
    mapped = load_networks(tmp_path).vae
    before = {name: tensor.clone() for name, tensor in mapped.state_dict().items()}
    save_components(tmp_path, {"vae": mapped})
    again = load_networks(tmp_path).vae.state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in before.items())


def test_the_index_names_what_is_there(tmp_path: Path) -> None:
    save_components(tmp_path, parts() | {"text_encoder": None}, requires_safety_checker=True)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["unet"] == ["diffusers", "UNet2DConditionModel"]
    assert index["scheduler"] == ["diffusers", "EulerDiscreteScheduler"]
    assert index["text_encoder"] == index["safety_checker"] == [None, None]
    assert index["requires_safety_checker"] is True


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        save_components(tmp_path / "file" / "vae", {"vae": AutoencoderKL(VAE)})
    with pytest.raises(UsageError, match="max_shard_size is '5 parsecs'"):
        save_components(tmp_path, {"vae": AutoencoderKL(VAE)}, max_shard_size="5 parsecs")
    with pytest.raises(UsageError, match="feature_extractor is a object"):
        save_components(tmp_path, parts() | {"feature_extractor": object()})


def test_what_else_lies_there_stays(tmp_path: Path) -> None:
    """Somebody's checkpoint has the name of a text encoder's weights, and a network is saved into a model's folder."""
    saved = parts()
    others = ["model.safetensors", "diffusion_pytorch_model.safetensors", "model-00001-of-00002.safetensors"]
    for name in others:
        (tmp_path / name).write_bytes(b"somebody's")
    save_components(tmp_path, saved)
    assert all((tmp_path / name).read_bytes() == b"somebody's" for name in others)
    save_components(tmp_path, {"vae": saved["vae"]})
    assert (tmp_path / "text_encoder" / "model.safetensors").is_file()
    assert (tmp_path / "model.safetensors").read_bytes() == b"somebody's"


@pytest.mark.parametrize("variant", ["../../x", "/abs", "a/b", "", ".."])
def test_a_variant_leads_nowhere_else(tmp_path: Path, variant: str) -> None:
    with pytest.raises(UsageError, match="variant is"):
        save_components(tmp_path / "m", {"vae": AutoencoderKL(VAE)}, variant=variant)
    assert not list(tmp_path.iterdir())
