"""Presets and the user config."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sdedit_cli.errors import PresetError
from sdedit_cli.options import edit_from
from sdedit_cli.presets import load_preset, preset_paths, shipped_folder, user_config

SHIPPED = sorted(shipped_folder().glob("*.toml"))


def test_the_presets_that_people_ask_for_are_there() -> None:
    wanted = {
        "sketch",
        "strokes",
        "restyle",
        "touch-up",
        "clean-up",
        "pixel-art",
        "variations",
        "texture",
        "quick",
        "inpaint",
    }
    few_steps = {"lcm", "tcd", "turbo", "hyper", "hyper-cfg", "hyper-1step"}
    assert wanted | few_steps <= {path.stem for path in SHIPPED}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_preset_is_an_edit_and_says_what_for(path: Path) -> None:
    preset = load_preset(path.stem)
    assert edit_from([preset.layer]) is not None
    assert preset.description
    assert not {"model", "vae", "lora", "embedding", "ip_adapter"} & set(preset.layer.values)


def test_a_preset_by_path_and_by_name(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('description = "x"\ncfg-scale = 3\nnegative_prompt = "blur"\n')
    for name in (str(file), "mine"):
        assert load_preset(name, (tmp_path,)).layer.values == {"cfg_scale": 3.0, "negative_prompt": "blur"}


def test_a_users_preset_hides_a_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "quick.toml").write_text("steps = 3\n")
    assert load_preset("quick", (tmp_path,)).layer.values == {"steps": 3}
    mine, shipped = preset_paths((tmp_path,))["quick"]
    assert (mine.parent, shipped.parent) == (tmp_path, shipped_folder())
    assert load_preset("quick", (tmp_path,)).hides == shipped
    assert load_preset("quick").hides is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("quik", "no preset is called 'quik'; did you mean 'quick'"),
        ("tiger", "no preset is called 'tiger'; did you mean 'drawing-tiger'"),
        ("nope/x.toml", "no such file"),
    ],
)
def test_a_preset_that_is_not_there(name: str, words: str) -> None:
    with pytest.raises(PresetError) as caught:
        load_preset(name)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"strength = 2", "preset"),
        (b"strenght = 0.2", "did you mean 'strength'"),
        (b"strength = ", "is not TOML"),
        (b"cfg-scale = 3\ncfg_scale = 4", "gives cfg-scale twice"),
        (b"size = '64x64'\nmax-side = 9", "size and max-side exclude each other"),
        (b"\xff\xfe", "is not a text file"),
        (b"description = 3", "description is 3"),
        (b"[strength]\nx = 1", "strength is"),
        (b"seed = " + b"9" * 6000, "value has 6000 digits"),
    ],
)
def test_a_bad_preset_is_refused_with_its_file(tmp_path: Path, text: bytes, words: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_bytes(text)
    with pytest.raises(PresetError) as caught:
        load_preset(str(file))
    assert words in str(caught.value)
    assert "bad.toml" in str(caught.value)
    assert "sys." not in str(caught.value)


def test_a_file_whose_name_would_be_a_path_has_none(tmp_path: Path) -> None:
    for name in (".toml", "a.toml.toml", "b.toml"):
        (tmp_path / name).write_text("steps = 3\n")
    assert {path.name for paths in preset_paths((tmp_path,)).values() for path in paths if path.parent == tmp_path} == {
        "b.toml"
    }


def test_the_user_config(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('model = "m"\nstrength = 0.3\n[models]\nfolders = ["weights"]\n[presets]\nfolders = ["/p"]\n')
    config = user_config({"SDEDIT_CONFIG": str(file), "SDEDIT_MODELS": os.pathsep.join(["/a", "/b"])})
    assert config.layer.values == {"model": "m", "strength": 0.3}
    assert config.model_folders == (Path("/a"), Path("/b"), tmp_path / "weights")
    assert config.preset_folders == (Path("/p"), tmp_path / "presets")


def test_folders_of_adapters(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[loras]\nfolders = ["l", "/m"]\n[embeddings]\nfolders = []\n')
    config = user_config({"SDEDIT_CONFIG": str(file), "SDEDIT_EMBEDDINGS": "/e", "SDEDIT_LORAS": "/first"})
    assert config.adapter_folders == {
        "lora": (Path("/first"), tmp_path / "l", Path("/m")),
        "embedding": (Path("/e"),),
    }
    file.write_text('[loras]\nfolders = [""]\n')
    with pytest.raises(PresetError, match=r"\[loras\] folders is \[''\]; expected a list of paths"):
        user_config({"SDEDIT_CONFIG": str(file)})
    file.write_text("[loras]\nplaces = []\n")
    with pytest.raises(PresetError, match=r"\[loras\] has 'places'"):
        user_config({"SDEDIT_CONFIG": str(file)})


def test_no_user_config_is_an_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert not user_config({}).layer.values
    assert not user_config({"SDEDIT_CONFIG": ""}).layer.values


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[models]\nfolder = []", "[models] has 'folder'"),
        ("[models]\nfolders = 3", "[models] folders is 3"),
        ("[presets]\nfolders = [1]", "[presets] folders is [1]"),
        ("models = 3", "[models]"),
        ("steps = 0", "steps is 0"),
    ],
)
def test_a_bad_user_config_is_refused(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)
    with pytest.raises(PresetError) as caught:
        user_config({"SDEDIT_CONFIG": str(file)})
    assert words in str(caught.value)


def test_a_config_that_is_a_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sdedit" / "config.toml").mkdir(parents=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(PresetError, match=r"config\.toml: is no file"):
        user_config({})


def test_a_named_config_must_exist(tmp_path: Path) -> None:
    with pytest.raises(PresetError, match="no such file"):
        user_config({"SDEDIT_CONFIG": str(tmp_path / "none.toml")})


def test_a_whole_number_may_be_written_as_a_float(tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text("count = 2.0\nseed = 3.0\ntimesteps = [900.0, 1]\n")
    assert load_preset(str(file)).layer.values == {"count": 2, "seed": 3, "timesteps": (900, 1)}
    for text in ("steps = 2.5", "steps = true", "steps = inf", "steps = 1e300", "steps = nan"):
        file.write_text(text)
        with pytest.raises(PresetError, match="steps is"):
            load_preset(str(file))


def test_presets_and_the_config_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_bytes(b"\xef\xbb\xbf" + 'prompt = "größer"\n'.encode())
    assert load_preset(str(file)).layer.values == {"prompt": "größer"}
    assert user_config({"SDEDIT_CONFIG": str(file)}).layer.values == {"prompt": "größer"}
    file.write_bytes('prompt = "x"'.encode("utf-16"))
    with pytest.raises(PresetError, match="UTF-8"):
        load_preset(str(file))
