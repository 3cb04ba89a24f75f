"""What the command line does with a picture that a checkpoint's safety checker flags."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.cli import QUICK, events, one_line, photo
from helpers.pipelines import write_checkpoint
from safetensors.torch import load_file, save_file

from sdedit_cli.cli.main import run


def write_checked(folder: Path, threshold: float) -> Path:
    """A tiny checkpoint whose checker flags what is nearer than that to a concept, by the cosine."""
    write_checkpoint(folder, "sd15", checker=True)
    path = folder / "safety_checker" / "model.safetensors"
    tensors = load_file(path)
    for name in ("concept_embeds_weights", "special_care_embeds_weights"):
        tensors[name] = tensors[name] * 0 + threshold
    save_file(tensors, path)
    return folder


@pytest.fixture(scope="module")
def suspicious(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint whose checker flags everything."""
    return write_checked(tmp_path_factory.mktemp("suspicious"), -2)


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


@pytest.mark.parametrize(
    ("before", "reason"), [("flag", "the safety checker flags it"), ("off", "has not looked at it")]
)
def test_a_batch_that_blocks_takes_nothing_for_fresh_that_no_checker_let_through(
    folder: Path, suspicious: Path, capfd: pytest.CaptureFixture[str], before: str, reason: str
) -> None:
    photo(folder / "a.png")
    words = ["batch", "a.png", "out", "-m", str(suspicious), "-p", "x", *QUICK, "--safety"]
    assert run([*words, before]) == 0
    assert run([*words, before, "--check"]) == 0
    capfd.readouterr()
    assert run([*words, "block", "--check"]) == 6
    assert reason in capfd.readouterr().err
    assert run([*words, "block"]) == 5
    assert run([*words, "block", "--check"]) == 6, "and it is not taken for another picture since"
    assert run([*words, before, "--check"]) == 0


@pytest.mark.parametrize("checker", [True, False])
def test_what_a_checker_let_through_or_no_model_has_one_for_is_fresh_where_a_batch_blocks(
    folder: Path, checker: bool
) -> None:
    photo(folder / "a.png")
    if checker:
        write_checked(folder / "model", 2)
    else:
        write_checkpoint(folder / "model", "sd15")
    words = ["batch", "a.png", "out", "-m", "model", "-p", "x", *QUICK, "--safety"]
    assert run([*words, "off"]) == 0
    assert run([*words, "block", "--check"]) == (6 if checker else 0)
    assert run([*words, "flag", "--check"]) == 0
    assert run([*words, "block"]) == 0
    assert run([*words, "block", "--check"]) == 0
