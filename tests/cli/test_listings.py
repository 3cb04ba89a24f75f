"""What can be named: presets, the drawings that ship, samplers."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sdedit_cli.cli.main import run
from sdedit_cli.errors import UsageError
from sdedit_cli.noise.samplers import SAMPLERS, find
from sdedit_cli.noise.scheduler import Scheduler
from sdedit_cli.options import CURVES
from sdedit_cli.presets import shipped_folder


def objects(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capfd.readouterr().out.splitlines()]


def test_every_preset_is_listed_with_what_it_does_and_where_it_is_from(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    mine = folder / "mine"
    mine.mkdir()
    (mine / "quick.toml").write_text('description = "my own"\nsteps = 3\n')
    (mine / "broken.toml").write_text("steps = [")
    (folder / "config.toml").write_text('[presets]\nfolders = ["mine"]\n')
    monkeypatch.setenv("SDEDIT_CONFIG", str(folder / "config.toml"))
    assert run(["presets", "--json"]) == 0
    found = {preset["name"]: preset for preset in objects(capfd)}
    assert {path.stem for path in shipped_folder().glob("*.toml")} | {"broken"} == set(found)
    assert found["quick"]["description"] == "my own"
    assert found["quick"]["from"] == str(mine / "quick.toml")
    assert found["quick"]["settings"] == {"steps": 3}
    assert found["strokes"]["from"] == "comes with sdedit"
    assert "is not TOML" in found["broken"]["error"]
    assert run(["presets"]) == 0
    told = capfd.readouterr().out
    assert all(f"\n{name}" in f"\n{told}" for name in found)


def test_the_drawings_that_ship_are_written_out_once(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["presets", "--strokes", "new/d"]) == 0
    written = capfd.readouterr().out.splitlines()
    assert [Path(name).name for name in written] == sorted(p.name for p in (shipped_folder() / "strokes").iterdir())
    for name in written:
        with Image.open(name) as image:
            assert image.size == (64, 64)
    assert run(["presets", "--strokes", "new/d"]) == 3
    assert "exists already" in capfd.readouterr().err
    assert run(["run", "new/d/apple.png", "--preset", "drawing-apple", "--dry-run"]) == 0


def test_every_sampler_is_listed_under_names_that_it_has(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["samplers", "--json"]) == 0
    listed = objects(capfd)
    names = [sampler["name"] for sampler in listed]
    names += [f"{sampler['name']} {curve.capitalize()}" for sampler in listed for curve in sampler["curves"]]
    assert sorted(names) == sorted(SAMPLERS)
    for sampler in listed:
        for curve in CURVES:
            with nullcontext() if curve in sampler["schedules"] else pytest.raises(UsageError, match="has no schedule"):
                Scheduler.named(sampler["name"], curve=curve)
        assert find(sampler["name"]) == find(sampler["word"])
        assert find(sampler["class"])[0] == find(sampler["name"])[0]
    assert run(["samplers"]) == 0
    assert len(capfd.readouterr().out.splitlines()) == len(listed)
