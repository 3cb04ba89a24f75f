"""What pictures say of the edit that made them."""

from __future__ import annotations

import io
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sdedit_cli.disk.hashes import file_hash, model_hash
from sdedit_cli.errors import PictureError
from sdedit_cli.options import Edit, edit_from
from sdedit_cli.pictures.record import (
    BUILT_IN,
    Record,
    find,
    parse_block,
    parse_parameters,
    save_arguments,
    texts,
)

FORMATS = ("png", "jpeg", "webp")
EDIT = Edit(prompt="a cat, ünï 猫\nsecond line", negative_prompt="blur: heavy", seed=2**64 - 1, steps=20, clip_skip=1)
anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def record_of(edit: Edit) -> Record:
    return Record(
        edit=edit.saved(),
        width=64,
        height=48,
        model=BUILT_IN,
        model_hash="ab" * 32,
        input_hash="cd" * 32,
        sampler="DPM++ 2M",
        curve="karras",
        version="1.2.3",
    )


def written(record: Record, format: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48)).save(buffer, format, **save_arguments(record, format))
    return buffer.getvalue()


@pytest.mark.parametrize("format", FORMATS)
def test_a_picture_gives_its_edit_back(format: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{format}"
    path.write_bytes(written(record_of(EDIT), format))
    found = find(path)
    assert edit_from([found.layer]) == EDIT
    assert found.exact
    assert (found.model, found.model_hash, found.input_hash) == (BUILT_IN, "ab" * 32, "cd" * 32)


@pytest.mark.parametrize("format", FORMATS)
def test_web_uis_find_their_text(format: str) -> None:
    with Image.open(io.BytesIO(written(record_of(EDIT), format))) as image:
        text = texts(image)["parameters"]
    assert text == (
        "a cat, ünï 猫\nsecond line\nNegative prompt: blur: heavy\n"
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 18446744073709551615, Size: 64x48, "
        "Model hash: ababababab, Model: built-in, Denoising strength: 0.8, Clip skip: 2, Init image hash: cdcdcdcdcd, "
        "Version: sdedit 1.2.3"
    )


@pytest.mark.parametrize("format", FORMATS)
def test_equal_edits_give_equal_bytes(format: str) -> None:
    assert written(record_of(EDIT), format) == written(record_of(EDIT), format)


@given(anything, anything)
def test_any_prompt_survives_in_png(prompt: str, negative: str) -> None:
    edit = Edit(prompt=prompt, negative_prompt=negative, seed=1)
    with Image.open(io.BytesIO(written(record_of(edit), "png"))) as image:
        held = texts(image)
    assert edit_from([parse_block(held["sdedit"], "x").layer]) == edit


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_a_model_whose_name_is_no_text_costs_no_picture(format: str) -> None:
    name = os.fsdecode(b"caf\xe9")
    arguments = save_arguments(replace(record_of(EDIT), model=name), format)
    Image.new("RGB", (4, 4)).save(io.BytesIO(), format, **arguments)


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_a_prompt_too_long_for_exif_costs_a_text_and_never_the_picture(format: str) -> None:
    edit = Edit(prompt="word " * 9000, seed=1)
    with Image.open(io.BytesIO(written(record_of(edit), format))) as image:
        held = texts(image)
    assert edit_from([parse_block(held["sdedit"], "x").layer]) == edit
    assert "parameters" not in held


def test_a_user_comment_in_the_other_byte_order_is_read() -> None:
    exif = Image.Exif()
    text = "a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5"
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + text.encode("utf-16-le")
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "jpeg", exif=exif.tobytes())
    with Image.open(buffer) as image:
        assert texts(image)["parameters"] == text


FOREIGN = """\
masterpiece, a (cat:1.2), <lora:x:0.8>
on two lines
Negative prompt: lowres, bad anatomy
also on two
Steps: 28, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 2741, \
Size: 512x768, Model hash: 6ce0161689, Model: v1-5-pruned-emaonly, \
Denoising strength: 0.55, Clip skip: 2, Lora hashes: "x: 0a1b, y: 2c3d", Version: v1.10.1"""


def test_a_web_uis_text_is_read() -> None:
    found = parse_parameters(FOREIGN, "p.png")
    assert found is not None
    assert found.layer.values == {
        "prompt": "masterpiece, a (cat:1.2), <lora:x:0.8>\non two lines",
        "negative_prompt": "lowres, bad anatomy\nalso on two",
        "steps": 28,
        "sampler": "DPM++ 2M",
        "schedule": "karras",
        "cfg_scale": 6.5,
        "seed": 2741,
        "strength": 0.55,
        "clip_skip": 1,
    }
    assert (found.model, found.model_hash, found.exact) == ("v1-5-pruned-emaonly", "6ce0161689", False)


@pytest.mark.parametrize(
    ("line", "values", "ignored"),
    [
        (
            "Steps: 20, Sampler: Euler, Schedule type: Automatic, Seed: 1",
            {"steps": 20, "sampler": "Euler", "seed": 1},
            (),
        ),
        ("Steps: 20, Sampler: Euler, Seed: -1", {"steps": 20, "sampler": "Euler"}, ("Seed: -1",)),
        (
            "Steps: 20, Schedule type: SGM Uniform, Seed: 1, Clip skip: 1",
            {"steps": 20, "seed": 1},
            ("Schedule type: SGM Uniform",),
        ),
    ],
)
def test_what_a_web_ui_means_by_default_is_left_to_the_default(
    line: str, values: dict[str, object], ignored: tuple[str, ...]
) -> None:
    found = parse_parameters(line, "x")
    assert found is not None
    assert found.layer.values == values
    assert found.ignored == ignored


@pytest.mark.parametrize("text", ["", "a caption of a cat", "Camera: X, Lens: Y, ISO: 100, Steps", "Steps: 3"])
def test_other_texts_are_not_taken_for_settings(text: str) -> None:
    assert parse_parameters(text, "x") is None


@given(st.text(max_size=200) | st.text('Steps: ,"\\\n5Seed', max_size=80))
def test_no_text_breaks_the_reader(text: str) -> None:
    parse_parameters(text, "x")
    with pytest.raises(PictureError):
        parse_block(text, "x")


@given(edit=st.builds(Edit, prompt=st.text("abc ,.()é", max_size=30).map(str.strip), seed=st.integers(0, 10**9)))
def test_our_own_text_is_read_back_as_web_uis_would(edit: Edit) -> None:
    found = parse_parameters(record_of(edit).parameters(), "x")
    assert found is not None
    assert found.layer.values.get("prompt", "") == edit.prompt
    assert found.layer.values["seed"] == edit.seed
    assert found.layer.values["strength"] == edit.strength


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": "sdedit.edit/9"}, "of the schema 'sdedit.edit/9'"),
        ({"edit": {"strength": 7}}, "strength is 7"),
        ({"edit": {"fancy": 7}}, "no option is called 'fancy'"),
        ({"edit": [1]}, "damaged"),
        ({"model": 3}, "damaged"),
        ({"model": {"name": 3, "sha256": ""}}, "damaged"),
    ],
)
def test_a_damaged_block_is_refused(change: dict[str, object], words: str) -> None:
    block = {**json.loads(record_of(EDIT).block()), **change}
    with pytest.raises(PictureError, match=words):
        parse_block(json.dumps(block), "x.png")


def test_pictures_without_settings_and_other_files_are_refused(tmp_path: Path) -> None:
    plain, text = tmp_path / "plain.png", tmp_path / "text.png"
    Image.new("RGB", (8, 8)).save(plain)
    text.write_text("hello")
    for path, words in (
        (plain, "holds no settings"),
        (text, "cannot be read"),
        (tmp_path / "none.png", "no such file"),
    ):
        with pytest.raises(PictureError, match=words):
            find(path)


def test_the_hash_of_a_folder_covers_what_is_loaded_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    weights, other = tmp_path / "unet" / "w.safetensors", tmp_path / "unet" / "w.bin"
    weights.write_bytes(b"1")
    first = model_hash(tmp_path)
    other.write_bytes(b"2")
    (tmp_path / "README.md").write_text("x")
    assert model_hash(tmp_path) == first
    weights.write_bytes(b"3")
    assert model_hash(tmp_path) != first
    assert model_hash(weights) == file_hash(weights)
    component = model_hash(tmp_path / "unet")
    weights.write_bytes(b"4")
    assert model_hash(tmp_path / "unet") != component
