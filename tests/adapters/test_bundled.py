"""Embeddings inside a LoRA's file come and go with the LoRA, in every layout; what does not fit is named."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from helpers.cli import QUICK, photo
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from sdedit_cli import StableDiffusionImg2ImgPipeline
from sdedit_cli.cli.main import run
from sdedit_cli.errors import ModelError, UsageError

WIDTH = 32
LAYOUTS = ("bundle_emb.mine.emb_params", "bundle_emb.mine.string_to_param.*", "bundle_emb.mine.clip_l")
MODULE = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"


def vectors(count: int = 2, width: int = WIDTH, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def lora(pipe: StableDiffusionImg2ImgPipeline, **more: Tensor) -> dict[str, Tensor]:
    name = next(n for n, _ in pipe.unet.named_modules() if n.endswith("attn1.to_q"))
    wide = pipe.unet.get_submodule(name).weight
    assert isinstance(wide, Tensor)
    module = f"lora_unet_{name.replace('.', '_')}"
    factors = {"lora_down": torch.ones(1, wide.shape[1]), "lora_up": torch.ones(wide.shape[0], 1)}
    return {f"{module}.{leaf}.weight": tensor * 0.05 for leaf, tensor in factors.items()} | more


def digest(pipe: StableDiffusionImg2ImgPipeline) -> str:
    assert pipe.text_encoder is not None
    states = [network.state_dict() for network in (pipe.text_encoder, pipe.unet)]
    return hashlib.sha256(b"".join(state[n].numpy().tobytes() for state in states for n in sorted(state))).hexdigest()


def ids(pipe: StableDiffusionImg2ImgPipeline, text: str) -> list[int]:
    assert pipe.tokenizer is not None
    return pipe.tokenizer.ids(text)


@pytest.mark.parametrize("key", LAYOUTS)
def test_words_come_and_go_with_their_lora(key: str, pipe: StableDiffusionImg2ImgPipeline) -> None:
    before, tokenizer = digest(pipe), pipe.tokenizer
    assert pipe.text_encoder is not None
    pipe.load_lora_weights(lora(pipe, **{key: vectors()}), adapter_name="a")
    rows = pipe.text_encoder.text_model.embeddings.token_embedding.weight
    assert torch.equal(rows[ids(pipe, "Mine")], vectors())
    assert ids(pipe, "mines") != ids(pipe, "mine")  # a word of its own, not the start of another
    pipe.load_textual_inversion({"<own>": vectors(1, seed=2)})
    pipe.unload_lora_weights()
    rows = pipe.text_encoder.text_model.embeddings.token_embedding.weight
    assert torch.equal(rows[ids(pipe, "<own>")], vectors(1, seed=2))
    assert len(rows) == len(tokenizer or ()) + 1
    pipe.load_lora_weights(lora(pipe, **{key: vectors()}), adapter_name="b")
    assert len(ids(pipe, "<own> mine")) == 3
    pipe.delete_adapters("b")
    pipe.unload_textual_inversion()
    assert digest(pipe) == before
    assert pipe.tokenizer is tokenizer


def test_words_of_a_lora_are_not_saved_with_the_model_as_its_weights_are_not(
    pipe: StableDiffusionImg2ImgPipeline, tmp_path: Path
) -> None:
    """The saved model would refuse the LoRA, whose word it knows already; words that somebody loaded are saved."""
    state, before = lora(pipe, **{LAYOUTS[0]: vectors()}), digest(pipe)
    pipe.load_lora_weights(state)
    loaded = digest(pipe)
    pipe.save_pretrained(tmp_path / "plain")
    assert digest(pipe) == loaded
    assert len(ids(pipe, "mine")) == 2
    saved = StableDiffusionImg2ImgPipeline.from_pretrained(tmp_path / "plain")
    assert digest(saved) == before
    saved.load_lora_weights(state)
    assert digest(saved) == loaded
    pipe.load_textual_inversion({"<own>": vectors(1, seed=2)})
    pipe.save_pretrained(tmp_path / "worded")
    assert len(ids(pipe, "<own> mine")) == 3
    saved = StableDiffusionImg2ImgPipeline.from_pretrained(tmp_path / "worded")
    assert len(ids(saved, "<own>")) == 1
    saved.load_lora_weights(state)
    assert len(ids(saved, "<own> mine")) == 3


def test_a_name_may_have_dots_and_be_a_word_of_the_vocabulary(pipe: StableDiffusionImg2ImgPipeline) -> None:
    assert pipe.tokenizer is not None
    known = next(word for word in ("a", "of", "the", "and") if pipe.tokenizer.id_of(word) is not None and len(word) > 1)
    size = len(pipe.tokenizer)
    named = {f"bundle_emb.{known}.emb_params": vectors(1), "bundle_emb.v1.5.string_to_param.*": vectors(1, seed=3)}
    pipe.load_lora_weights(lora(pipe, **named))
    assert ids(pipe, f"{known}, v1.5")[0] == size
    assert ids(pipe, f"{known}, v1.5")[-1] == size + 1


@pytest.mark.parametrize("word", ["q", "Q", "7", "é", "!", "!!!"])
def test_a_word_of_one_letter_is_one_though_the_vocabulary_has_it_in_capitals_too(
    word: str, pipe: StableDiffusionImg2ImgPipeline
) -> None:
    assert pipe.tokenizer is not None
    before, size = digest(pipe), len(pipe.tokenizer)
    plain = ids(pipe, "quick x 8 q7q a cafés")
    key = f"bundle_emb.{word}.emb_params"
    pipe.load_lora_weights(lora(pipe, **{key: vectors()}))
    text = f"a {word}, cat"
    assert [index for index in ids(pipe, text) if index >= size] == [size, size + 1]
    places = [token for token in pipe.tokenizer.tokens(text) if token.id >= size]
    assert [text[token.start : token.end].strip() for token in places] == [word, word]
    assert ids(pipe, "quick x 8 q7q a cafés") == plain
    with pytest.raises(UsageError, match=f"knows the token '{word}' already"):
        pipe.load_lora_weights(lora(pipe, **{key: vectors(seed=5)}))
    pipe.unload_lora_weights()
    assert digest(pipe) == before


def test_two_loras_may_bring_the_same_word_and_no_other_of_its_name(pipe: StableDiffusionImg2ImgPipeline) -> None:
    state = lora(pipe, **{LAYOUTS[0]: vectors()})
    pipe.load_lora_weights(state, adapter_name="a")
    pipe.load_lora_weights(state, adapter_name="b")
    before = digest(pipe)
    with pytest.raises(UsageError, match="knows the token 'mine' already"):
        pipe.load_lora_weights(lora(pipe, **{LAYOUTS[0]: vectors(seed=5)}), adapter_name="c")
    assert digest(pipe) == before
    assert pipe.get_list_adapters() == {"unet": ["a", "b"]}
    pipe.delete_adapters("a")
    assert len(ids(pipe, "mine")) == 2


UNUSED: dict[str, tuple[dict[str, Tensor], str]] = {
    "XL": (
        {"bundle_emb.mine.clip_l": vectors(), "bundle_emb.mine.clip_g": vectors(width=64)},
        "'mine' is not used: it is for Stable Diffusion XL",
    ),
    "another width": ({LAYOUTS[0]: vectors(width=64)}, "its vectors have 64 numbers, and this text encoder takes 32"),
    "several entries": ({LAYOUTS[0]: vectors(), LAYOUTS[2]: vectors()}, "it has 2 entries"),
    "no letters": ({"bundle_emb. .emb_params": vectors()}, "' ' is not used: it has no letters"),
    "a picture's worth": ({LAYOUTS[0]: torch.ones(2, 2, WIDTH)}, "its shape is \\[2, 2, 32\\]"),
}


@pytest.mark.parametrize("case", UNUSED)
def test_words_that_do_not_fit_are_named_and_the_lora_is_taken(case: str, pipe: StableDiffusionImg2ImgPipeline) -> None:
    held, said = UNUSED[case]
    tokenizer = pipe.tokenizer
    with pytest.warns(UserWarning, match=said):
        pipe.load_lora_weights(lora(pipe, **held))
    assert pipe.tokenizer is tokenizer
    assert pipe.get_active_adapters() == ["default_0"]


def test_damaged_words_are_refused(pipe: StableDiffusionImg2ImgPipeline) -> None:
    before = digest(pipe)
    with pytest.raises(ModelError, match=r"'bundle_emb.mine.emb_params' holds no usable vectors"):
        pipe.load_lora_weights(lora(pipe, **{LAYOUTS[0]: vectors() * float("inf")}))
    assert digest(pipe) == before


def test_the_command_line_says_what_came_with_a_lora(
    folder: Path, pipe: StableDiffusionImg2ImgPipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_word = {**lora(pipe, **{LAYOUTS[0]: vectors()}), "bundle_emb.wide.clip_l": vectors(width=64)}
    save_file(lora(pipe), tmp_path / "plain.safetensors")
    save_file(with_word, tmp_path / "style.safetensors")
    save_file({"emb_params": vectors()}, tmp_path / "mine.safetensors")
    save_file({"emb_params": vectors(seed=8)}, tmp_path / "other.safetensors")
    command = ["run", str(photo(tmp_path / "a.png")), "-m", str(folder), "-p", "a mine", *QUICK]

    def made(name: str, *options: str) -> bytes:
        assert run([*command, "-o", str(tmp_path / name), *options]) == 0
        return Image.open(tmp_path / name).tobytes()

    loras = {name: str(tmp_path / f"{name}.safetensors") for name in ("plain", "style", "mine", "other")}
    bundled = made("1.png", "--lora", loras["style"])
    said = " ".join(capsys.readouterr().err.split())
    assert "style.safetensors: the word 'mine' of 2 vectors" in said
    assert "the bundled word 'wide' is not used: its vectors have 64 numbers" in said
    assert bundled != made("2.png", "--lora", loras["plain"])
    assert bundled == made("3.png", "--lora", loras["plain"], "--embedding", loras["mine"])
    assert bundled == made("4.png", "--lora", loras["style"], "--embedding", loras["mine"])  # one word, told once
    assert run([*command, "--lora", loras["style"], "--embedding", f"{loras['other']}:mine"]) == 2
    assert "both have the word 'mine'" in capsys.readouterr().err
