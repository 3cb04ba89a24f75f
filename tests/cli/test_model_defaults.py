"""The settings that a model brings: below all that a user says, and nothing but what shapes a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import BUILT_IN, photo
from helpers.pipelines import write_checkpoint
from PIL import Image

from sdedit_cli.cli.layering import layering
from sdedit_cli.cli.main import run
from sdedit_cli.configs.model_block import NOTE, ModelBlock, read_block
from sdedit_cli.errors import ModelError
from sdedit_cli.options import fields
from sdedit_cli.presets import load_preset
from sdedit_cli.weights import open_checkpoint


def none_given(**given: object) -> dict[str, object]:
    return {**{field.name: None for field in fields()}, **given}


def model(folder: Path, block: object) -> str:
    folder.mkdir()
    (folder / "model_index.json").write_text(json.dumps({"_sdedit": block}))
    return str(folder)


def test_the_built_in_model_is_used_as_it_was_measured(folder: Path) -> None:
    card = (BUILT_IN / "README.md").read_text(encoding="utf-8")
    assert "25 steps of DDIM, guidance 5.0" in card
    assert "strength 0.75" in card
    edit = layering(none_given(), [], None).request().edit
    assert (edit.steps, edit.cfg_scale, edit.strength) == (25, 5.0, 0.75)


def test_every_layer_of_the_user_wins_over_the_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = model(folder / "mine", {"defaults": {"strength": 0.3, "cfg-scale": 3, "steps": 30, "sampler": "euler"}})
    config = folder / "config.toml"
    config.write_text("cfg-scale = 4\n")
    monkeypatch.setenv("SDEDIT_CONFIG", str(config))
    edit = layering(none_given(model=mine, timesteps=(800, 500, 100), strength=0.9), [], None).request().edit
    assert (edit.strength, edit.cfg_scale, edit.sampler) == (0.9, 4.0, "euler")
    assert edit.steps_total() == 3  # naming the timesteps takes the model's steps back


def test_the_model_of_a_preset_brings_its_defaults_too(folder: Path) -> None:
    mine = model(folder / "mine", {"defaults": {"strength": 0.3}, "knows": "cats"})
    (folder / "p.toml").write_text(f'model = "{mine}"\n')
    request = layering(none_given(), [load_preset(str(folder / "p.toml"))], None).request()
    assert (request.edit.strength, request.model.knows) == (0.3, "cats")


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"defaults": {"vae": "/etc/x"}}, "sets 'vae', which is for users"),
        ({"defaults": {"download": True}}, "sets 'download'"),
        ({"defaults": {"safety": "off"}}, "sets 'safety'"),
        ({"defaults": {"count": 9}}, "sets 'count'"),
        ({"defaults": {"prompt": "x"}}, "sets 'prompt'"),
        ({"defaults": {"threads": 9}}, "sets 'threads'"),
        ({"defaults": {"strength": 7}}, "strength is 7"),
        ({"defaults": {"strenght": 0.5}}, "did you mean 'strength'"),
        ({"defaults": [1]}, "expected an object"),
        ([1], "expected an object"),
    ],
)
def test_a_model_may_not_set_what_is_for_users_or_makes_no_sense(folder: Path, block: Any, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        layering(none_given(model=model(folder / "mine", block)), [], None).request()


def test_a_converted_folder_keeps_them(folder: Path) -> None:
    assert run(["convert", str(BUILT_IN), "copy"]) == 0
    assert read_block(folder / "copy") == read_block(BUILT_IN)
    assert open_checkpoint(folder / "copy").block == read_block(BUILT_IN)


def test_a_single_file_keeps_them(folder: Path) -> None:
    """Through the file and back into a folder; read from the header alone, where a run resolves its options."""
    assert run(["convert", str(BUILT_IN), "one.safetensors"]) == 0
    assert read_block(folder / "one.safetensors").as_json() == read_block(BUILT_IN).as_json() != {}
    request = layering(none_given(model="one.safetensors"), [], None).request()
    assert (request.edit.steps, request.edit.cfg_scale, request.edit.strength) == (25, 5.0, 0.75)
    assert request.model.knows == read_block(BUILT_IN).knows
    assert run(["convert", "one.safetensors", "again"]) == 0
    assert read_block(folder / "again") == read_block(BUILT_IN)


def file_of(header: bytes, size: int | None = None) -> bytes:
    return (len(header) if size is None else size).to_bytes(8, "little") + header


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x02}q\x00.",
        file_of(b"{}"),
        file_of(b"[1]"),
        file_of(b'{"__metadata__": null}'),
        file_of(b'{"__metadata__": 3}'),
        file_of(b'{"__metadata__": {"a": "b"}}'),
        file_of(b"{}", size=1 << 60),
        file_of(b"{" * 100_000),
        file_of(b"\xff\xfe"),
    ],
)
def test_a_file_without_them_has_none(folder: Path, content: bytes) -> None:
    (folder / "m.safetensors").write_bytes(content)
    assert read_block(folder / "m.safetensors") == ModelBlock()


@pytest.mark.parametrize("note", ["", "{", "[1]", '{"defaults": 1}', '{"knows": 3}', "[" * 100_000])
def test_a_broken_note_is_refused_by_name(folder: Path, note: str) -> None:
    (folder / "m.safetensors").write_bytes(file_of(json.dumps({"__metadata__": {NOTE: note}}).encode()))
    with pytest.raises(ModelError, match=r"m\.safetensors"):
        read_block(folder / "m.safetensors")


def test_the_run_says_what_the_model_knows(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    photo(folder / "a.png")
    assert run(["run", "a.png", "--dry-run"]) == 0
    assert f"the built-in model knows {read_block(BUILT_IN).knows}" in capfd.readouterr().err


@pytest.mark.parametrize(
    "name",
    [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "vae/config.json",
        "text_encoder/config.json",
        "tokenizer/tokenizer_config.json",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
    ],
)
def test_a_models_texts_may_begin_with_a_byte_order_mark(folder: Path, name: str) -> None:
    photo(folder / "a.png", (32, 32))
    write_checkpoint(folder / "m", "sd15")
    words = ["run", "a.png", "-m", "m", "-p", "x", "--steps", "1", "--strength", "1", "--seed", "1", "-q"]
    found: list[bytes] = []
    for data in ((folder / "m" / name).read_bytes(), b"\xef\xbb\xbf" + (folder / "m" / name).read_bytes()):
        (folder / "m" / name).write_bytes(data)
        assert run([*words, "--on-exists", "overwrite"]) == 0
        with Image.open("a.edited.png") as image:
            found.append(image.tobytes())
    assert found[0] == found[1]
