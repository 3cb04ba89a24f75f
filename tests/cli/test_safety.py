"""What the command line does with a picture that a checkpoint's safety checker flags."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.cli import QUICK, events, one_line, photo
from helpers.pipelines import write_checkpoint
from safetensors.torch import load_file, save_file

from sdedit_cli.cli.main import run


@pytest.fixture(scope="module")
def suspicious(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint whose checker flags everything."""
    folder = tmp_path_factory.mktemp("suspicious")
    write_checkpoint(folder, "sd15", checker=True)
    path = folder / "safety_checker" / "model.safetensors"
    tensors = load_file(path)
    tensors["concept_embeds_weights"] = tensors["concept_embeds_weights"] * 0 - 2  # below every cosine
    save_file(tensors, path)
    return folder


def test_a_flagged_picture_is_told_blocked_or_let_through(
    folder: Path, suspicious: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    photo(folder / "a.png")
    words = ["run", "a.png", "-m", str(suspicious), "--json", *QUICK]

    assert run([*words, "-o", "flagged.png"]) == 0
    told = events(capfd.readouterr().out)
    assert next(event for event in told if event["event"] == "saved")["nsfw"] is True
    assert any(event["event"] == "warning" and "flags it" in event["message"] for event in told)

    assert run([*words, "-o", "blocked.png", "--safety", "block"]) == 7
    out, err = capfd.readouterr()
    assert "the safety checker flags the result (seed 1), so nothing was written" in one_line(err)
    assert events(out)[-1]["exit_code"] == 7
    assert not Path("blocked.png").exists()

    assert run([*words, "-o", "off.png", "--safety", "off"]) == 0
    saved = next(event for event in events(capfd.readouterr().out) if event["event"] == "saved")
    assert "nsfw" not in saved
    assert Path("off.png").read_bytes() == Path("flagged.png").read_bytes()


def test_no_step_of_a_picture_is_written_that_may_be_blocked(
    folder: Path, suspicious: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    photo(folder / "a.png")
    words = ["run", "a.png", "-m", str(suspicious), "--safety", "block", "--save-every", "1", *QUICK]
    assert run(words) == 2
    assert one_line(capfd.readouterr().err).startswith("sdedit: --save-every writes pictures that --safety block")
    assert [path.name for path in Path().glob("a*")] == ["a.png"]
