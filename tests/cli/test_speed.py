"""The options of approximate pictures on the command line: recorded, in the key, replayed, and refused by name."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers.cli import BUILT_IN, QUICK, one_line, photo

from sdedit_cli.cli.jax_editor import check_supported
from sdedit_cli.cli.main import run
from sdedit_cli.errors import UsageError
from sdedit_cli.options import Edit
from sdedit_cli.pictures.carriers import find

WAYS: dict[str, tuple[tuple[str, ...], dict[str, object]]] = {
    "interval": (("--cfg-interval", "0.0..0.80"), {"cfg_interval": "0..0.8"}),
    "features": (("--cache-features", "2"), {"cache_features": 2}),
    "tokens": (("--merge-tokens", "0.5"), {"merge_tokens": 0.5}),
    "fast": (("--fast",), {"cfg_interval": "0..0.8", "cache_features": 3}),
    "fast, less of it": (("--fast", "--cache-features", "2"), {"cfg_interval": "0..0.8", "cache_features": 2}),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_shortened_picture_says_so_and_is_repeated_from_what_it_says(
    folder: Path, way: str, capfd: pytest.CaptureFixture[str]
) -> None:
    words, said = WAYS[way]
    photo(folder / "in.png")
    settings = ("-p", "a house", *QUICK, "--steps", "10")
    assert run(["run", "in.png", "-o", "plain.png", *settings]) == 0
    capfd.readouterr()
    assert run(["run", "in.png", "-o", "made.png", *settings, *words]) == 0
    told = [line for line in capfd.readouterr().err.splitlines() if line.startswith("fast: ")]
    assert len(told) == ("--fast" in words)
    if told:
        assert "cfg-interval 0..0.8" in told[0]
        assert ("cache-features 3" in told[0]) == ("--cache-features" not in words)
    assert Path("made.png").read_bytes() != Path("plain.png").read_bytes()
    values = find("made.png").layer.values
    assert {name: values.get(name) for name in said} == said
    assert not {"cfg_interval", "cache_features", "merge_tokens"} & find("plain.png").layer.values.keys()
    assert run(["run", "in.png", "-o", "again.png", "--like", "made.png"]) == 0
    assert Path("again.png").read_bytes() == Path("made.png").read_bytes()


def test_a_batch_makes_anew_what_was_shortened_otherwise(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "in").mkdir()
    photo(folder / "in" / "a.png")
    settings = ("-p", "a house", *QUICK, "--json")
    for words, saved in (((), 1), (("--fast",), 1), (("--fast",), 0), (("--merge-tokens", "0.3"), 1)):
        capfd.readouterr()
        assert run(["batch", "in", "out", *settings, *words]) == 0
        assert json.loads(capfd.readouterr().out.splitlines()[-1])["saved"] == saved


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--cfg-interval", "0.8..0.2"), "cfg-interval is '0.8..0.2'; expected two shares of the schedule"),
        (("--cfg-interval", "0..1.5"), "expected two shares of the schedule"),
        (("--cfg-interval", "high"), "expected two shares of the schedule"),
        (("--cache-features", "1"), "expected a whole number from 2 to 10"),
        (("--merge-tokens", "0.9"), "at most 0.7"),
        (("--cache-features", "2", "--tile", "64"), "cache-features and tile exclude each other"),
        (("--tiny-vae", "none"), "--tiny-vae none: no such file or folder"),
    ],
)
def test_what_has_no_meaning_is_refused(
    folder: Path, words: tuple[str, ...], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    photo(folder / "in.png")
    assert run(["run", "in.png", "-o", "x.png", *QUICK, *words]) in (2, 3)
    assert said in one_line(capfd.readouterr().err)
    assert not Path("x.png").exists()


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
@pytest.mark.parametrize("changed", [{"cfg_interval": "0..0.5"}, {"cache_features": 2}, {"merge_tokens": 0.5}])
def test_jax_refuses_them_by_name(changed: dict[str, object]) -> None:
    flag = "--" + next(iter(changed)).replace("_", "-")
    with pytest.raises(UsageError, match=f"{flag} is not done by --backend jax"):
        check_supported(Edit(backend="jax", **changed))  # type: ignore[arg-type]
    check_supported(Edit(backend="jax", cache=False))


def tiny_autoencoder(folder: Path, channels: int, levels: int) -> None:
    from diffusers import AutoencoderTiny

    sides = {f"{side}_block_out_channels": (8,) * levels for side in ("encoder", "decoder")}
    counts = {f"num_{side}_blocks": (1,) * levels for side in ("encoder", "decoder")}
    torch.manual_seed(0)
    AutoencoderTiny(**sides, **counts, latent_channels=channels).save_pretrained(folder)


def test_a_tiny_autoencoder_makes_the_picture_and_does_not_see_the_input(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    photo(folder / "in.png")
    config = json.loads((BUILT_IN / "vae" / "config.json").read_text(encoding="utf-8"))
    channels, levels = config["latent_channels"], len(config["block_out_channels"])
    tiny_autoencoder(folder / "tiny", channels, levels)
    assert run(["run", "in.png", "-o", "plain.png", "-p", "a house", *QUICK]) == 0
    settings = ("run", "in.png", "-p", "a house", *QUICK, "--tiny-vae", "tiny")
    assert run([*settings, "-o", "made.png"]) == 0
    (one,) = [one for one in find("made.png").ingredients if one.kind == "tiny_vae"]
    assert one.name == "tiny"
    assert len(one.sha256) == 64
    assert Path("made.png").read_bytes() != Path("plain.png").read_bytes()
    # What it makes of latents depends on its own weights alone, and what the model sees does not.
    shutil.rmtree("tiny")
    torch.manual_seed(1)
    tiny_autoencoder(folder / "wrong", channels + 1, levels)
    assert run([*settings[:-1], "wrong", "-o", "x.png"]) == 3
    assert f"latents of {channels + 1} channels" in one_line(capfd.readouterr().err)
    assert run([*settings[:-1], str(BUILT_IN / "vae"), "-o", "x.png"]) == 3
    assert "no tiny one; --vae takes it" in one_line(capfd.readouterr().err)
    assert not Path("x.png").exists()
