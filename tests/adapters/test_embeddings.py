"""Textual inversion: every layout of files gives the same words, the picture is the oracle's, and no trace stays."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.cli import QUICK, photo
from helpers.pipelines import picture
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save_file
from torch import Tensor

from sdedit_cli import StableDiffusionImg2ImgPipeline
from sdedit_cli.cli.main import run
from sdedit_cli.errors import ModelError, UsageError

WIDTH = 32


def vectors(count: int = 3, width: int = WIDTH, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def a1111(path: Path, of: Tensor) -> None:
    held = {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": of.clone().requires_grad_()},
        "name": "inner",
        "step": 9,
    }
    torch.save(held, path)


def first_trainer(path: Path, of: Tensor) -> None:
    parameters = torch.nn.ParameterDict({"*": torch.nn.Parameter(of)})
    torch.save({"string_to_token": {"*": torch.tensor(265)}, "string_to_param": parameters}, path)


def as_json(of: Tensor) -> bytes:
    return json.dumps({"string_to_param": {"*": {"TORCHTENSOR": of.tolist()}}, "name": "inner"}).encode()


def png_text(path: Path, of: Tensor) -> None:
    info = PngInfo()
    info.add_text("sd-ti-embedding", base64.b64encode(as_json(of)).decode())
    Image.new("RGB", (8, 8), "red").save(path, pnginfo=info)


def png_pixels(path: Path, of: Tensor) -> None:
    """Two strips of nibbles beside a picture, black columns between them and black borders around."""
    packed = zlib.compress(as_json(of))
    height, channels = 40, 3
    columns = -(-len(packed) // (height * channels)) + 1
    data = np.zeros(height * columns * channels, dtype=np.uint8)
    data[: len(packed)] = np.frombuffer(packed, dtype=np.uint8)
    state, mask = 1, np.empty(data.size, dtype=np.uint8)
    for i in range(data.size):
        mask[i] = (state % 255) & 0x0F
        state = (state * 1664525 + 1013904223) % 2**32
    strips = [((part ^ mask) | 0x40).reshape(height, columns, channels) for part in (data & 0x0F, data >> 4)]
    gap, middle = np.zeros((height, 3, channels), np.uint8), np.full((height, 20, channels), 200, np.uint8)
    whole = np.pad(np.concatenate([strips[0], gap, middle, gap, strips[1]], axis=1), ((2, 3), (4, 1), (0, 0)))
    Image.fromarray(whole).save(path)


LAYOUTS: dict[str, tuple[str, Callable[[Path, Tensor], object]]] = {
    "A1111": ("w.pt", a1111),
    "first trainer": ("w.pt", first_trainer),
    "diffusers, pickle": ("w.bin", lambda path, of: torch.save({"<word>": of}, path)),
    "diffusers": ("w.safetensors", lambda path, of: save_file({"<word>": of}, path)),
    "kohya": ("w.safetensors", lambda path, of: save_file({"emb_params": of.half()}, path)),
    "OneTrainer": ("w.safetensors", lambda path, of: save_file({"emp_params": of}, path)),
    "PNG, text": ("w.png", png_text),
    "PNG, pixels": ("w.png", png_pixels),
}


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


def test_a_saved_pipeline_keeps_its_words(pipe: StableDiffusionImg2ImgPipeline, tmp_path: Path) -> None:
    pipe.load_textual_inversion({"<word>": vectors()})
    pipe.save_pretrained(tmp_path / "saved")
    again = StableDiffusionImg2ImgPipeline.from_pretrained(tmp_path / "saved")
    assert torch.equal(made(again, "a <word>"), made(pipe, "a <word>"))


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
