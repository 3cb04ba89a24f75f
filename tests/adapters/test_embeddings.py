"""Textual inversion: every layout of files gives the same words, the picture is the oracle's, and no trace stays."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from helpers.cli import QUICK, photo
from helpers.embeddings import LAYOUTS, WIDTH, a1111, vectors
from helpers.pipelines import picture
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from sdedit_cli import StableDiffusionImg2ImgPipeline
from sdedit_cli.cli.main import run
from sdedit_cli.errors import ModelError, UsageError


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_read(layout: str, pipe: StableDiffusionImg2ImgPipeline, tmp_path: Path) -> None:
    name, write = LAYOUTS[layout]
    write(tmp_path / name, vectors())
    pipe.load_textual_inversion(tmp_path / name, token="<mine>")
    assert pipe.tokenizer is not None
    assert pipe.text_encoder is not None
    ids = pipe.tokenizer.ids("a <mine>, b")
    rows = pipe.text_encoder.text_model.embeddings.token_embedding.weight
    places = [i for i in ids if i >= len(rows) - 3]
    assert len(places) == 3
    assert torch.allclose(rows[places], vectors(), atol=1e-2 if layout == "kohya" else 1e-6)


def made(pipe: Any, prompt: str) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    options = {"num_inference_steps": 4, "generator": generator, "output_type": "pt"}
    return pipe(prompt=prompt, negative_prompt="<word>", image=picture(), **options).images


@pytest.mark.parametrize("count", [1, 3])
def test_the_picture_is_the_oracles(
    count: int, folder: Path, pipe: StableDiffusionImg2ImgPipeline, tmp_path: Path
) -> None:
    from diffusers import StableDiffusionImg2ImgPipeline as Oracle

    theirs = Oracle.from_pretrained(folder, safety_checker=None)
    theirs.set_progress_bar_config(disable=True)
    plain = made(pipe, "a <word> in the snow")
    save_file({"<word>": vectors(count) * 0.5}, tmp_path / "w.safetensors")
    theirs.load_textual_inversion(tmp_path / "w.safetensors")
    pipe.load_textual_inversion(tmp_path / "w.safetensors")
    found, wanted = made(pipe, "a <word> in the snow"), made(theirs, "a <word> in the snow")
    assert (found - wanted).abs().max() < 1e-4
    assert (found - plain).abs().max() > 1e-3


def digest(pipe: StableDiffusionImg2ImgPipeline) -> str:
    assert pipe.text_encoder is not None
    state = pipe.text_encoder.state_dict()
    return hashlib.sha256(b"".join(state[name].numpy().tobytes() for name in sorted(state))).hexdigest()


def test_words_go_without_a_trace(pipe: StableDiffusionImg2ImgPipeline) -> None:
    before, tokenizer = digest(pipe), pipe.tokenizer
    assert pipe.text_encoder is not None
    config = pipe.text_encoder.config
    pipe.load_textual_inversion([{"<a>": vectors()}, {"<b>": vectors(1, seed=2)}])
    pipe.load_textual_inversion({"emb_params": vectors(2, seed=3)}, token="<c>")
    pipe.unload_textual_inversion("<a>")
    assert pipe.tokenizer is not None
    assert len(pipe.tokenizer.ids("<b> <c>")) == 3
    assert pipe.tokenizer.id_of("<a>") is None
    with pytest.raises(UsageError, match="did you mean '<c>'"):
        pipe.unload_textual_inversion("<cc>")
    with pytest.raises(UsageError, match="knows the token '<b>' already"):
        pipe.load_textual_inversion({"<b>": vectors()})
    pipe.unload_textual_inversion()
    assert digest(pipe) == before
    assert pipe.tokenizer is tokenizer
    assert pipe.text_encoder.config == config


def test_bare_vectors_are_a_word_by_their_token(pipe: StableDiffusionImg2ImgPipeline) -> None:
    pipe.load_textual_inversion([vectors(), {"<b>": vectors(1, seed=2)}], token=["<a>", None])
    assert pipe.tokenizer is not None
    assert len(pipe.tokenizer.ids("<a> <b>")) == 4
    with pytest.raises(UsageError, match="give `token`"):
        pipe.load_textual_inversion(vectors())


@pytest.mark.parametrize("named", ["<c2>", "<C2>", "MyCat"])
def test_a_word_has_all_its_vectors_in_whatever_case_it_is_typed(
    named: str, pipe: StableDiffusionImg2ImgPipeline
) -> None:
    """As in web UIs; the reference takes the first of them where the case is another than the word's."""
    pipe.load_textual_inversion({named: vectors()})
    assert pipe.tokenizer is not None
    spelled = pipe.tokenizer.ids(f"a {named}, b")
    assert len(spelled) == 6
    for typed in (named.lower(), named.upper(), named.swapcase()):
        assert pipe.tokenizer.ids(f"a {typed}, b") == spelled


def test_what_a_caller_does_with_its_vectors_changes_no_word(pipe: StableDiffusionImg2ImgPipeline) -> None:
    own = {"<word>": vectors()}
    pipe.load_textual_inversion(own)
    before = made(pipe, "a <word>")
    own["<word>"].zero_()
    pipe.load_textual_inversion({"<other>": vectors(1, seed=2)})
    assert torch.equal(made(pipe, "a <word>"), before)


def test_a_saved_pipeline_keeps_its_words(pipe: StableDiffusionImg2ImgPipeline, tmp_path: Path) -> None:
    pipe.load_textual_inversion({"<word>": vectors()})
    pipe.save_pretrained(tmp_path / "saved")
    again = StableDiffusionImg2ImgPipeline.from_pretrained(tmp_path / "saved")
    assert torch.equal(made(again, "a <word>"), made(pipe, "a <word>"))


@pytest.mark.parametrize("saver", ["ours", "the oracle's"])
def test_words_that_a_pipeline_was_saved_with_are_taken_back(
    saver: str, pipe: StableDiffusionImg2ImgPipeline, tmp_path: Path
) -> None:
    base = digest(pipe)
    pipe.save_pretrained(tmp_path / "base")
    saving: Any = (
        pipe if saver == "ours" else diffusers.StableDiffusionImg2ImgPipeline.from_pretrained(tmp_path / "base")
    )
    saving.load_textual_inversion({"<a>": vectors()}, token="<a>")
    saving.load_textual_inversion({"<b>": vectors(1, seed=2)}, token="<b>")
    saving.save_pretrained(tmp_path / "saved")
    again = StableDiffusionImg2ImgPipeline.from_pretrained(tmp_path / "saved")
    kept = made(again, "a <a> <b>")
    again.load_textual_inversion({"<c>": vectors(1, seed=3)})
    assert torch.equal(made(again, "a <a> <b>"), kept)
    with pytest.raises(UsageError, match="no embedding is called '<bb>'; did you mean '<b>'"):
        again.unload_textual_inversion("<bb>")
    again.unload_textual_inversion(["<a>", "<c>"])
    assert again.tokenizer is not None
    assert [len(again.tokenizer.ids(word)) for word in ("<a>", "<b>")] == [3, 1]
    again.unload_textual_inversion()
    assert digest(again) == base
    assert pipe.tokenizer is not None
    pipe.unload_textual_inversion()
    assert again.tokenizer.agrees_with(pipe.tokenizer)
    with pytest.raises(UsageError, match="no embedding is called '<b>'"):
        again.unload_textual_inversion("<b>")


WRONG: dict[str, tuple[dict[str, Tensor], str]] = {
    "another width": (
        {"<w>": vectors(width=64)},
        "vectors have 64 numbers, and this model's text encoder takes 32",
    ),
    "XL": ({"clip_l": vectors(), "clip_g": vectors()}, "for Stable Diffusion XL"),
    "several": ({"<a>": vectors(), "<b>": vectors()}, "holds 2 entries"),
    "nothing": ({}, "holds 0 entries"),
    "not finite": ({"<w>": vectors() * float("nan")}, "not finite"),
    "a picture's worth": ({"<w>": torch.ones(2, 2, WIDTH)}, "is no embedding"),
    "a word of no letters": ({"": vectors()}, "says no word for its vectors; give it one with `token`"),
    "no word": ({"emb_params": vectors()}, "says no word"),
    "after the encoder": ({"emp_params": vectors(), "emp_params_out": vectors()}, "after the text encoder"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_embedding_is_refused(case: str, pipe: StableDiffusionImg2ImgPipeline) -> None:
    held, said = WRONG[case]
    before = digest(pipe)
    with pytest.raises(ModelError, match=said):
        pipe.load_textual_inversion(held)
    assert digest(pipe) == before


def test_the_command_line_names_words_by_their_files(folder: Path, tmp_path: Path) -> None:
    a1111(tmp_path / "mystyle.pt", vectors())
    command = ["run", str(photo(tmp_path / "a.png")), "-m", str(folder), "-q", *QUICK, "--embedding"]

    def painted(name: str, prompt: str, embedding: str) -> Image.Image:
        assert run([*command, str(tmp_path / embedding), "-p", prompt, "-o", str(tmp_path / name)]) == 0
        return Image.open(tmp_path / name)

    by_stem, by_word = painted("1.png", "a mystyle", "mystyle.pt"), painted("2.png", "a <x>", "mystyle.pt:<x>")
    unused = painted("3.png", "a <x>", "mystyle.pt")
    assert by_stem.tobytes() == by_word.tobytes() != unused.tobytes()
    assert "TI hashes" in by_stem.text["parameters"]
    torch.save({"<w>": vectors(width=64)}, tmp_path / "wide.bin")
    assert run([*command, str(tmp_path / "wide.bin"), "-p", "x", "-o", str(tmp_path / "4.png")]) == 3
