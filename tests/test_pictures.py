"""What pictures say of the edit that made them."""

from __future__ import annotations

import io
import json
import os
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sdedit_cli.errors import PictureError
from sdedit_cli.options import BUILT_IN_NAME, MAX_CHARACTERS, Edit, edit_from, fields
from sdedit_cli.pictures.carriers import carried, find, texts
from sdedit_cli.pictures.codec import open_picture
from sdedit_cli.pictures.parameters import parameters, parse_parameters
from sdedit_cli.pictures.record import Ingredient, Record, block, parse_block

FORMATS = ("png", "jpeg", "webp")
EDIT = Edit(prompt="a cat, ünï 猫\nsecond line", negative_prompt="blur: heavy", seed=2**64 - 1, steps=20, clip_skip=1)
anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def record_of(edit: Edit) -> Record:
    return Record(
        edit=edit.saved(),
        width=64,
        height=48,
        ingredients=(Ingredient("model", BUILT_IN_NAME, "ab" * 32),),
        input_hash="cd" * 32,
        sampler="DPM++ 2M",
        curve="karras",
        version="1.2.3",
    )


def written(record: Record, format: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48)).save(buffer, format, **carried(record, format).arguments)
    return buffer.getvalue()


def held_by(data: bytes) -> dict[str, str]:
    return texts(open_picture(data, "x", 100))


@pytest.mark.parametrize("format", FORMATS)
def test_a_picture_gives_its_edit_back(format: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{format}"
    path.write_bytes(written(record_of(EDIT), format))
    found = find(path)
    assert edit_from([found.layer]) == EDIT
    assert found.exact
    assert found.ingredients == (Ingredient("model", BUILT_IN_NAME, "ab" * 32), Ingredient("vae"))
    assert found.input_hash == "cd" * 32
    assert not found.ignored


@pytest.mark.parametrize("format", FORMATS)
def test_web_uis_find_their_text(format: str) -> None:
    text = held_by(written(record_of(EDIT), format))["parameters"]
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
    held = held_by(written(record_of(edit), "png"))
    assert edit_from([parse_block(held["sdedit"], "x").layer]) == edit


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_a_model_whose_name_is_no_text_costs_no_picture(format: str) -> None:
    name = os.fsdecode(b"caf\xe9")
    arguments = carried(replace(record_of(EDIT), ingredients=(Ingredient("model", name),)), format).arguments
    Image.new("RGB", (4, 4)).save(io.BytesIO(), format, **arguments)


@pytest.mark.parametrize(
    ("format", "length", "held", "lost"),
    [
        ("jpeg", 9000, {"sdedit"}, "web UIs cannot read them"),
        ("jpeg", 14_000, set[str](), "--like and web UIs cannot read them"),
        ("jpeg", 3000, {"sdedit", "parameters"}, ""),
        ("webp", 19_000, {"sdedit", "parameters"}, ""),
        ("png", 19_000, {"sdedit", "parameters"}, ""),
    ],
)
def test_a_prompt_too_long_for_exif_costs_a_text_and_never_the_picture(
    format: str, length: int, held: set[str], lost: str
) -> None:
    edit = Edit(prompt="word " * length, seed=1)
    texts = held_by(written(record_of(edit), format))
    assert set(texts) == held
    if "sdedit" in held:
        assert edit_from([parse_block(texts["sdedit"], "x").layer]) == edit
    notes = carried(record_of(edit), format).notes
    assert bool(notes) == bool(lost)
    assert not lost or lost in notes[0]


def test_a_user_comment_in_the_other_byte_order_is_read() -> None:
    exif = Image.Exif()
    text = "a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5"
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + text.encode("utf-16-le")
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "jpeg", exif=exif.tobytes())
    assert held_by(buffer.getvalue())["parameters"] == text


@given(st.text(max_size=200) | st.text('Steps: ,"\\\n5Seed', max_size=80))
def test_no_text_breaks_the_reader(text: str) -> None:
    parse_parameters(text, "x")
    with pytest.raises(PictureError):
        parse_block(text, "x")


@given(edit=st.builds(Edit, prompt=st.text("abc ,.()é", max_size=30).map(str.strip), seed=st.integers(0, 10**9)))
def test_our_own_text_is_read_back_as_web_uis_would(edit: Edit) -> None:
    found = parse_parameters(parameters(record_of(edit)), "x")
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
        ({"edit": []}, "damaged"),
        ({"input": "x"}, "damaged"),
        ({"schema": [[]]}, "of the schema"),
        ({"ingredients": [3]}, "damaged"),
        ({"ingredients": {"kind": "lora"}}, "damaged"),
        ({"ingredients": [{"kind": "lora", "name": "x"}]}, "damaged"),
        ({"ingredients": [{"kind": "lora", "name": "x", "sha256": "", "scale": 10**400}]}, "damaged"),
        ({"ingredients": [{"kind": "lora", "name": "x", "sha256": "", "dyn": "all"}]}, "damaged"),
        ({"edit": {"steps": 10**400}}, "x.png: steps is a number of 1329 bits; expected a whole number"),
        ({"edit": {"cfg_scale": 10**400}}, "x.png: cfg-scale is a number of 1329 bits; expected a number"),
        ({"edit": {"prompt": "x" * (MAX_CHARACTERS + 1)}}, "x.png: prompt has 100001 characters"),
        ({"edit": {"sigmas": list(range(2000))}}, "x.png: sigmas has 2000 entries"),
    ],
)
def test_a_damaged_block_is_refused(change: dict[str, object], words: str) -> None:
    loaded = {**json.loads(block(record_of(EDIT))), **change}
    with pytest.raises(PictureError, match=words):
        parse_block(json.dumps(loaded), "x.png")


def test_pictures_without_settings_and_other_files_are_refused(tmp_path: Path) -> None:
    plain, text = tmp_path / "plain.png", tmp_path / "text.png"
    Image.new("RGB", (8, 8)).save(plain)
    text.write_text("hello")
    for path, words in (
        (plain, "holds no settings"),
        (text, "is a text file"),
        (tmp_path / "none.png", "no such file"),
    ):
        with pytest.raises(PictureError, match=words):
            find(path)


# As the first version wrote them: pictures with these texts are about, and equal edits give equal bytes.
LISTED = Edit(
    prompt="x",
    seed=5,
    sigmas=(3.5, 1.0, 0.25),
    eta=0.5,
    freeu=(0.9, 0.2, 1.3, 1.4),
    sampler="ddim",
    schedule="karras",
    prediction_type="epsilon",
    dtype="fp16",
    vae_tiling=True,
    weighting=False,
    long_prompts="chunk",
    model="/a/b.ckpt",
    vae="/a/v.pt",
    config="/c",
    count=3,
    download=True,
    partial=True,
    safety="off",
    attention="sliced",
    device="cpu",
)
LISTED_RECORD = Record(
    *(LISTED.saved(), 64, 48, (Ingredient("model", "b, c", "ab" * 32), Ingredient("vae", "v", "ef" * 32)), "cd" * 32),
    sampler="DDIM",
    version="1.2.3",
)
FROZEN = [
    (
        record_of(EDIT),
        r'{"edit":{"cfg_scale":7.5,"clip_skip":1,"dtype":"auto","eta":0.0,"exact_steps":false,"long_prompts":"truncate",'
        r'"negative_prompt":"blur: heavy","prompt":"a cat, \u00fcn\u00ef \u732b\nsecond line",'
        r'"seed":18446744073709551615,"steps":20,"strength":0.8,"vae_tiling":false,"weighting":true},'
        rf'"input":{{"height":48,"sha256":"{"cd" * 32}","width":64}},'
        rf'"model":{{"name":"built-in","sha256":"{"ab" * 32}"}},"sampler":{{"curve":"karras","name":"DPM++ 2M"}},'
        r'"schema":"sdedit.edit/1","vae":{"name":"","sha256":""},"version":"1.2.3"}',
        "a cat, ünï 猫\nsecond line\nNegative prompt: blur: heavy\n"
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 18446744073709551615, Size: 64x48, "
        "Model hash: ababababab, Model: built-in, Denoising strength: 0.8, Clip skip: 2, Init image hash: cdcdcdcdcd, "
        "Version: sdedit 1.2.3",
    ),
    (
        LISTED_RECORD,
        r'{"edit":{"cfg_scale":7.5,"dtype":"fp16","eta":0.5,"freeu":[0.9,0.2,1.3,1.4],"long_prompts":"chunk",'
        r'"negative_prompt":"","prediction_type":"epsilon","prompt":"x","sampler":"ddim","schedule":"karras","seed":5,'
        r'"sigmas":[3.5,1.0,0.25],"strength":0.8,"vae_tiling":true,"weighting":false},'
        rf'"input":{{"height":48,"sha256":"{"cd" * 32}","width":64}},'
        rf'"model":{{"name":"b, c","sha256":"{"ab" * 32}"}},"sampler":{{"curve":"","name":"DDIM"}},'
        rf'"schema":"sdedit.edit/1","vae":{{"name":"v","sha256":"{"ef" * 32}"}},"version":"1.2.3"}}',
        'x\nSteps: 3, Sampler: DDIM, CFG scale: 7.5, Seed: 5, Size: 64x48, Model hash: ababababab, Model: "b, c", '
        "VAE hash: efefefefef, VAE: v, Denoising strength: 0.8, Eta: 0.5, Init image hash: cdcdcdcdcd, "
        "Version: sdedit 1.2.3",
    ),
]


@pytest.mark.parametrize(("record", "exact", "text"), FROZEN, ids=["plain", "listed"])
def test_the_texts_of_an_edit_never_change(record: Record, exact: str, text: str) -> None:
    assert block(record) == exact
    assert parameters(record) == text


def test_any_ingredient_is_recorded() -> None:
    more = (
        Ingredient("lora", "one: new, by me", "12" * 32, 0.8, 0.5, "OUTALL", 4, "78" * 32),
        Ingredient("embedding", "word", "34" * 32),
        Ingredient("lora", "two", "56" * 32, -1.0),
    )
    record = replace(LISTED_RECORD, ingredients=(*LISTED_RECORD.ingredients, *more))
    assert parameters(record).endswith(
        ', Init image hash: cdcdcdcdcd, Lora hashes: "one new by me: 787878787878, two: 565656565656", '
        'TI hashes: "word: 343434343434", Version: sdedit 1.2.3'
    )
    exact = parse_block(block(record), "x")
    assert exact.ingredients == record.ingredients
    assert exact.left_out([exact.ingredients[3]]) == ("lora: one: new, by me", "lora: two")
    text = parse_parameters(parameters(record), "x")
    assert text is not None
    hashes = [(one.kind, one.name, one.sha256) for one in text.ingredients if one.kind in ("lora", "embedding")]
    assert hashes == [("lora", "one new by me", "78" * 6), ("lora", "two", "56" * 6), ("embedding", "word", "34" * 6)]
    assert (text.model.sha256, text.vae.sha256) == ("ab" * 5, "ef" * 5)


KEPT_OUT = [field for field in fields() if not field.option.in_picture]


@pytest.mark.parametrize("word", [w for field in KEPT_OUT for w in dict.fromkeys((field.name, field.key))])
def test_a_picture_is_not_a_command(word: str) -> None:
    loaded = json.loads(block(record_of(EDIT)))
    loaded["edit"][word] = "https://example.com/\x1b[2J" + "x" * 9000
    found = parse_block(json.dumps(loaded), "x")
    assert edit_from([found.layer]) == EDIT
    (ignored,) = found.ignored
    assert ignored.startswith(f"{word.replace('_', '-')}: https://example.com/\\x1b[2Jxxx")
    assert len(ignored) < 120


def test_a_web_uis_text_sets_only_what_a_picture_may() -> None:
    loud = ", ".join(f"{field.key}: 1, {field.name}: 1, {field.name.title()}: 1" for field in fields())
    found = parse_parameters(f"a\nSteps: 3, Sampler: Euler, Eta: 1, {loud}, Download: True", "x")
    assert found is not None
    assert set(found.layer.values) <= {field.name for field in fields() if field.option.in_picture}


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("cut", [11, 14, 20, 31])
def test_a_broken_exif_block_is_passed_over_without_a_word_of_the_decoders(
    tmp_path: Path, format: str, cut: int
) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a text that is longer than four bytes"
    Image.new("RGB", (8, 8)).save(tmp_path / "a", format, exif=exif.tobytes()[:cut] + b"\xff\xff\xff")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with pytest.raises(PictureError, match="no settings"):
            find(tmp_path / "a")
    assert not said
