"""Parameter names and shapes are the oracle's, for the published architectures too: their files load as they are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.tiny.networks import oracle_from_config, oracle_name, oracle_of, tiny_clip, tiny_unet

from sdedit_cli.configs.clip import CLIPTextConfig
from sdedit_cli.configs.unet import UNetConfig
from sdedit_cli.configs.vae import TinyVAEConfig, VAEConfig
from sdedit_cli.nn import AutoencoderKL, CLIPTextModel, TinyAutoencoder, UNet2DCondition

SD15: dict[str, Any] = {
    "_class_name": "UNet2DConditionModel",
    "sample_size": 64,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
SD21 = {
    **SD15,
    "sample_size": 96,
    "cross_attention_dim": 1024,
    "attention_head_dim": [5, 10, 20, 20],
    "use_linear_projection": True,
    "upcast_attention": True,
}
SDXL = {
    **SD15,
    "sample_size": 128,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [320, 640, 1280],
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
VAE = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "sample_size": 512,
}
CLIP_L = {
    "model_type": "clip_text_model",
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "projection_dim": 768,
}
OPEN_CLIP_H = {
    "model_type": "clip_text_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_hidden_layers": 23,
    "hidden_act": "gelu",
    "projection_dim": 512,
}

ARCHITECTURES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "SD 1.5": (UNet2DCondition, UNetConfig, SD15),
    "SD 1.5 inpainting": (UNet2DCondition, UNetConfig, {**SD15, "in_channels": 9}),
    "SD 2.1": (UNet2DCondition, UNetConfig, SD21),
    "LCM Dreamshaper": (UNet2DCondition, UNetConfig, {**SD15, "time_cond_proj_dim": 256}),
    "SDXL base": (UNet2DCondition, UNetConfig, SDXL),
    "autoencoder": (AutoencoderKL, VAEConfig, VAE),
    "TAESD": (TinyAutoencoder, TinyVAEConfig, {"_class_name": "AutoencoderTiny"}),
    "CLIP ViT-L": (CLIPTextModel, CLIPTextConfig, CLIP_L),
    "OpenCLIP ViT-H": (CLIPTextModel, CLIPTextConfig, OPEN_CLIP_H),
}


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_published_architectures_have_the_oracle_s_names_and_shapes(name: str) -> None:
    network, config, data = ARCHITECTURES[name]
    with torch.device("meta"):
        ours, theirs = network(config.from_dict(data)), oracle_from_config(data)
    shapes = {oracle_name(ours, key): tuple(value.shape) for key, value in ours.state_dict().items()}
    assert shapes == {key: tuple(value.shape) for key, value in theirs.state_dict().items()}
    assert all(parameter.is_meta for parameter in ours.parameters())
    assert not list(ours.buffers()), "a buffer would need real data before any file is read"


def test_text_encoder_names_carry_the_prefix_that_files_have() -> None:
    with torch.device("meta"):
        model = CLIPTextModel(CLIPTextConfig())
    assert all(name.startswith("text_model.") for name in model.state_dict())


@pytest.mark.parametrize("prefix", ["", "text_model."])
def test_a_text_encoder_takes_the_tensors_of_transformers(prefix: str) -> None:
    """Of releases with and without the prefix; the old ones saved the numbers of positions too."""
    ours, theirs = tiny_clip(seed=1), oracle_of(tiny_clip(seed=2))
    state = {prefix + name.removeprefix("text_model."): value for name, value in theirs.state_dict().items()}
    ours.load_state_dict({**state, prefix + "embeddings.position_ids": torch.arange(77)})
    ids_BT = torch.arange(12).view(2, 6)
    with torch.no_grad():
        assert torch.allclose(ours(ids_BT).last_hidden_state, theirs(ids_BT).last_hidden_state, atol=1e-5)
    with pytest.raises(RuntimeError, match=r"Unexpected key.*'?vision_model.x"):
        ours.load_state_dict({**state, "vision_model.x": torch.zeros(1)})


@pytest.mark.parametrize(("network", "config", "data"), ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_config_survives_a_round_trip_through_its_file(network: Any, config: Any, data: dict[str, Any]) -> None:
    first = config.from_dict(data)
    assert config.from_dict(first.to_dict()) == first
    assert hash(first) == hash(config.from_dict(data))


def test_a_meta_network_runs_with_assigned_weights() -> None:
    real = tiny_unet("sdxl")
    with torch.device("meta"):
        empty = UNet2DCondition(real.config)
    empty.load_state_dict(real.state_dict(), assign=True)
    x, t, text = torch.randn(1, 4, 8, 8), torch.tensor([5]), torch.randn(1, 7, 32)
    added = {"text_embeds": torch.randn(1, 24), "time_ids": torch.ones(1, 6)}
    with torch.no_grad():
        results = [model(x, model.embed_time(t, added=added), model.context(text)) for model in (real, empty)]
    assert torch.equal(*results)
    assert empty.dtype is torch.float32
    assert empty.device == torch.device("cpu")
