"""The network is touched only where --download allows it; then the picture is that of the same model on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.cli import BUILT_IN, QUICK, ROOT, sdedit
from helpers.hub import running
from PIL import Image

APPLE = ROOT / "presets" / "strokes" / "apple.png"
EDIT = ("run", APPLE, "-p", "a red apple", *QUICK, "--cfg-scale", "7.5")


@pytest.mark.parametrize("how", ["id", "url"])
def test_a_model_of_the_hub_needs_leave_once(how: str, tmp_path: Path) -> None:
    files = {path.relative_to(BUILT_IN).as_posix(): path.read_bytes() for path in BUILT_IN.rglob("*") if path.is_file()}
    if how == "url":
        assert sdedit("convert", BUILT_IN, "m.safetensors", cwd=tmp_path).returncode == 0
        files = {"m.safetensors": (tmp_path / "m.safetensors").read_bytes()}
    with running() as hub:
        hub.repos["o/model"] = {"main": files}
        model = "o/model" if how == "id" else f"{hub.url}/o/model/blob/main/m.safetensors"
        more = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hub")}

        refused = sdedit(*EDIT, "-m", model, "-o", "a.png", cwd=tmp_path, more=more)
        assert refused.returncode == 3
        assert b"--download" in refused.stderr
        assert not hub.log

        fetched = sdedit(*EDIT, "-m", model, "-o", "b.png", "--download", cwd=tmp_path, more=more)
        assert fetched.returncode == 0, fetched.stderr
        asked = len(hub.log)
        cached = sdedit(*EDIT, "-m", model, "-o", "c.png", cwd=tmp_path, more=more)
        assert cached.returncode == 0, cached.stderr
        assert len(hub.log) == asked
    own = sdedit(*EDIT, "-o", "own.png", cwd=tmp_path)
    assert own.returncode == 0
    pictures = [Image.open(tmp_path / name).tobytes() for name in ("b.png", "c.png", "own.png")]
    assert pictures[0] == pictures[1] == pictures[2]


def test_a_model_file_is_found_without_its_ending(tmp_path: Path) -> None:
    assert sdedit("convert", BUILT_IN, "m.safetensors", cwd=tmp_path).returncode == 0
    assert sdedit(*EDIT, "-m", "m", "-o", "a.png", cwd=tmp_path).returncode == 0
