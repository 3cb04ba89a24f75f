"""A network that is exchanged while adapters are at work: the others keep theirs once, and their base."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.embeddings import vectors
from helpers.loras import DIALECTS, factors
from helpers.pipelines import picture
from torch import Tensor, nn

from sdedit_cli import StableDiffusionImg2ImgPipeline
from sdedit_cli.errors import UsageError
from sdedit_cli.nn import CLIPTextModel


def weights(network: nn.Module | None) -> dict[str, Tensor]:
    assert network is not None
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_text_encoder_that_is_let_go_of_leaves_the_unet_as_it_is(pipe: StableDiffusionImg2ImgPipeline) -> None:
    """As who encodes prompts first and wants the memory back does."""
    base = weights(pipe.unet)
    pipe.load_lora_weights(DIALECTS["kohya"](pipe, factors(pipe)))
    merged = weights(pipe.unet)
    assert not same(base, merged)
    encoder = pipe.text_encoder
    text = weights(encoder)
    pipe.text_encoder = None
    pipe.enable_lora()
    assert same(weights(pipe.unet), merged), "the adapter counts once"
    pipe.text_encoder = encoder
    pipe.enable_lora()
    assert same(weights(encoder), text), "it comes back, and the adapter with it"
    pipe.unload_lora_weights()
    assert same(weights(pipe.unet), base)


def test_another_unet_gets_the_adapters_and_the_text_encoder_keeps_them_once(
    pipe: StableDiffusionImg2ImgPipeline, folder: Path
) -> None:
    base = weights(pipe.text_encoder)
    pipe.load_lora_weights(DIALECTS["kohya"](pipe, factors(pipe)))
    unet, text = weights(pipe.unet), weights(pipe.text_encoder)
    assert not same(base, text)
    pipe.unet = StableDiffusionImg2ImgPipeline.from_pretrained(folder).unet
    pipe.enable_lora()
    assert same(weights(pipe.unet), unet)
    assert same(weights(pipe.text_encoder), text)
    pipe.unload_lora_weights()
    assert same(weights(pipe.text_encoder), base)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_copy_of_the_unet_has_the_adapters_once_and_the_base_beneath(
    pipe: StableDiffusionImg2ImgPipeline, dtype: torch.dtype
) -> None:
    pipe.to(dtype)
    base, first = weights(pipe.unet), pipe.unet
    pipe.load_lora_weights(DIALECTS["kohya"](pipe, factors(pipe)))
    merged, copied = weights(pipe.unet), deepcopy(pipe.unet)
    pipe.unet = copied
    pipe.enable_lora()
    assert same(weights(copied), merged)
    pipe.unload_lora_weights()
    assert pipe.unet is copied
    assert same(weights(copied), base)
    assert same(weights(first), base)


def made(pipe: StableDiffusionImg2ImgPipeline, prompt: str = "a <a> cat") -> Tensor:
    call = {"prompt": prompt, "image": picture(), "num_inference_steps": 2, "output_type": "pt"}
    return pipe(**call, generator=torch.Generator().manual_seed(3)).images


def test_words_follow_to_another_text_encoder_and_to_another_tokenizer(
    pipe: StableDiffusionImg2ImgPipeline, folder: Path
) -> None:
    plain, base = made(pipe, "a cat"), weights(pipe.text_encoder)
    pipe.load_textual_inversion({"<a>": vectors()})
    with_word = made(pipe)
    other = StableDiffusionImg2ImgPipeline.from_pretrained(folder)
    pipe.text_encoder = other.text_encoder
    assert torch.equal(made(pipe), with_word)
    pipe.tokenizer = other.tokenizer
    assert torch.equal(made(pipe), with_word)
    pipe.load_textual_inversion({"<b>": vectors(1, seed=2)})
    assert torch.equal(made(pipe), with_word)
    other.load_textual_inversion({"<a>": vectors(seed=7)})
    pipe.tokenizer, pipe.text_encoder = other.tokenizer, other.text_encoder
    assert torch.equal(made(pipe), made(other)), "what comes with a tokenizer is its own"
    pipe.unload_textual_inversion()
    assert torch.equal(made(pipe, "a cat"), plain)
    assert same(weights(pipe.text_encoder), base)
    pipe.load_textual_inversion({"<a>": vectors()})
    assert pipe.text_encoder is not None
    rows = len(base["text_model.embeddings.token_embedding.weight"])
    wide = replace(pipe.text_encoder.config, hidden_size=64, vocab_size=rows)
    pipe.text_encoder = CLIPTextModel(wide)
    with pytest.raises(UsageError, match="'<a>' has vectors of 32 numbers, and this text encoder takes 64"):
        made(pipe)


@pytest.mark.parametrize("way", ["embedding", "LoRA", "saved", "moved", "copied"])
def test_a_table_with_more_rows_than_the_tokenizer_is_given_back_whole(
    way: str, pipe: StableDiffusionImg2ImgPipeline, tmp_path: Path
) -> None:
    """As training scripts make tables that are a multiple of something."""
    assert pipe.text_encoder is not None
    table = pipe.text_encoder.text_model.embeddings.token_embedding
    table.weight = nn.Parameter(torch.cat([table.weight, torch.randn(8, 32)]), requires_grad=False)
    pipe.text_encoder.config = replace(pipe.text_encoder.config, vocab_size=len(table.weight))
    if way == "saved":
        saved = pipe.tokenizer
        pipe.load_textual_inversion({"<s>": vectors()})
        pipe.unload_textual_inversion()
        assert saved is pipe.tokenizer
        pipe.save_pretrained(tmp_path / "saved")
        pipe = StableDiffusionImg2ImgPipeline.from_pretrained(tmp_path / "saved")
    base, config = weights(pipe.text_encoder), pipe.text_encoder.config
    if way == "LoRA":
        change = torch.randn(len(table.weight), 32) * 0.05
        name = "lora_te_text_model_embeddings_token_embedding"
        pipe.load_lora_weights({f"{name}.diff": change, "bundle_emb.mine.emb_params": vectors()})
    pipe.load_textual_inversion({"<a>": vectors()})
    if way == "copied":
        pipe = deepcopy(pipe)
    if way == "moved":
        base = {name: tensor.to(torch.bfloat16) for name, tensor in base.items()}
        pipe.to(torch.bfloat16)
    pipe.load_textual_inversion({"<b>": vectors(1, seed=2)})
    assert not same(weights(pipe.text_encoder), base)
    pipe.unload_textual_inversion("<a>")
    pipe.unload_textual_inversion()
    pipe.unload_lora_weights()
    assert pipe.text_encoder is not None
    assert same(weights(pipe.text_encoder), base)
    assert pipe.text_encoder.config == config
    assert "beyond" not in " ".join(pipe.text_encoder.state_dict())


def test_pipelines_over_one_text_encoder_have_words_of_their_own(pipe: StableDiffusionImg2ImgPipeline) -> None:
    before = StableDiffusionImg2ImgPipeline(**pipe.components)
    pipe.load_textual_inversion({"<a>": vectors()})
    first = made(pipe)
    after = StableDiffusionImg2ImgPipeline(**pipe.components)
    unused = StableDiffusionImg2ImgPipeline(**pipe.components)
    assert torch.equal(made(after), first)
    before.load_textual_inversion({"<a>": vectors(seed=7)})
    second = made(before)
    assert not torch.equal(second, first)
    for _ in range(2):
        assert torch.equal(made(pipe), first)
        assert torch.equal(made(before), second)
    pipe.unload_textual_inversion()
    before.unload_textual_inversion()
    assert torch.equal(made(after), first)
    after.unload_textual_inversion()
    with pytest.raises(UsageError, match="another pipeline has unloaded its words"):
        made(unused)


def test_what_is_saved_has_the_words_of_its_own_pipeline(pipe: StableDiffusionImg2ImgPipeline, tmp_path: Path) -> None:
    pipe.load_textual_inversion({"<a>": vectors()})
    first = made(pipe)
    other = StableDiffusionImg2ImgPipeline(**pipe.components)
    other.unload_textual_inversion()
    pipe.save_pretrained(tmp_path / "one")
    other.load_textual_inversion({"<a>": vectors(seed=7)})
    pipe.save_pretrained(tmp_path / "two")
    for name in ("one", "two"):
        assert torch.equal(made(StableDiffusionImg2ImgPipeline.from_pretrained(tmp_path / name)), first)


def test_words_and_loras_of_the_text_encoder_follow_together(
    pipe: StableDiffusionImg2ImgPipeline, folder: Path
) -> None:
    pipe.load_textual_inversion({"<a>": vectors()})
    table = "text_encoder.text_model.embeddings.token_embedding"
    assert pipe.text_encoder is not None
    rows = len(weights(pipe.text_encoder)["text_model.embeddings.token_embedding.weight"]) - len(vectors())
    change = torch.randn(rows, 32, generator=torch.Generator().manual_seed(3)) * 0.05
    pipe.load_lora_weights({f"lora_te_{table.removeprefix('text_encoder.').replace('.', '_')}.diff": change})
    merged = made(pipe)
    other = StableDiffusionImg2ImgPipeline.from_pretrained(folder)
    pipe.tokenizer = other.tokenizer
    pipe.disable_lora()
    pipe.enable_lora()
    assert torch.equal(made(pipe), merged)
    pipe.unload_lora_weights()
    pipe.load_lora_weights(DIALECTS["kohya"](pipe, factors(pipe)))
    merged = made(pipe)
    pipe.text_encoder = other.text_encoder
    pipe.disable_lora()
    pipe.enable_lora()
    assert torch.equal(made(pipe), merged)
