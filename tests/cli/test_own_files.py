"""A destination that comes from somebody else, as a checkout does: no link in it leads a batch to other files, and
nothing without an end is waited for."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
from helpers.cli import QUICK, one_line, photo

from sdedit_cli.cli.main import run

WORDS = ("-p", "x", "-q", *QUICK)
pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no such files")


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe", "device"])
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("lock", ()),
        ("lock-1-of-2", ("--shard", "1/2")),
        ("lock-9-of-9", ("--shard", "1/2")),
        ("journal.jsonl", ()),
        ("journal-1-of-2.jsonl", ("--shard", "1/2")),
    ],
)
def test_what_lies_in_the_place_of_a_lock_or_journal_is_left_alone(
    folder: Path, name: str, more: tuple[str, ...], kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    photo(folder / "a.png")
    own = Path("out/.sdedit")
    own.mkdir(parents=True)
    precious = Path("notes.txt")
    precious.write_text("precious")
    make = {
        "link": lambda: (own / name).symlink_to("../../notes.txt"),
        "hard link": lambda: (own / name).hardlink_to(precious),
        "pipe": lambda: os.mkfifo(own / name),
        "device": lambda: (own / name).symlink_to("/dev/zero"),
    }
    make[kind]()
    assert run(["batch", "a.png", "out", *more, *WORDS]) == 3
    said = one_line(capfd.readouterr().err)
    assert f".sdedit{os.sep}{name}: is no file of its own" in said
    assert precious.read_text() == "precious"
    assert not list(Path("out").glob("*.png"))


def test_a_folder_of_a_batch_that_leads_elsewhere_is_not_followed(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    photo(folder / "a.png")
    Path("elsewhere").mkdir()
    Path("out").mkdir()
    Path("out/.sdedit").symlink_to("../elsewhere", target_is_directory=True)
    assert run(["batch", "a.png", "out", *WORDS]) == 3
    assert "is no folder of its own" in one_line(capfd.readouterr().err)
    assert not list(Path("elsewhere").iterdir())


@pytest.mark.parametrize(
    ("as_what", "end"),
    [
        *itertools.product(["input", "mask", "output"], ["device", "pipe"]),
        *itertools.product(["input", "output"], ["too large"]),  # a mask is hashed as any file, whatever its size
    ],
)
def test_what_has_no_end_is_not_waited_for(
    folder: Path, as_what: str, end: str, capfd: pytest.CaptureFixture[str]
) -> None:
    photo(folder / "a.png")
    places = {"input": Path("s/b.png"), "mask": Path("m.png"), "output": Path("out/b.png")}
    source, place = Path("s"), places[as_what]
    source.mkdir()
    photo(source / "b.png")
    if as_what == "output":
        assert run(["batch", "s", "out", *WORDS]) == 0
    place.unlink(missing_ok=True)
    if end == "device":
        place.symlink_to("/dev/zero")
    elif end == "pipe":
        os.mkfifo(place)
    else:
        place.touch()
        os.truncate(place, 300 << 30)
    masked = ("--mask", "m.png") if as_what == "mask" else ()
    source = {"input": place, "mask": Path("a.png")}.get(as_what, source)
    assert run(["batch", str(source), "out", "--check", *masked, *WORDS]) in (3, 6)
    assert "internal" not in capfd.readouterr().err


@pytest.mark.parametrize("where", [".", "./", os.pardir])
def test_a_folder_without_a_name_of_its_own_gets_its_results_beside_it(folder: Path, where: str) -> None:
    place = folder / "photos" / "inner"
    place.mkdir(parents=True)
    photo((place if where != os.pardir else place.parent) / "a.png")
    os.chdir(place)
    assert run(["batch", where, *WORDS]) == 0
    made = folder / ("photos.edited" if where == os.pardir else "photos/inner.edited") / "a.png"
    assert made.is_file()


def test_names_of_files_are_no_commands_for_githubs_runner(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    photo(folder / "::stop-commands::x.png")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert run(["batch", ".", "../out", "-p", "x", *QUICK]) == 0
    assert not [line for line in capfd.readouterr().err.split("\n") if line.startswith("::stop")]


def test_a_step_that_cannot_be_written_costs_no_picture(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("a.png", "b.png"):
        photo(folder / name)
    words = ["-p", "x", "--steps", "4", *QUICK[2:], "-o", "out/", "--save-every", "1", "--steps-dir", "s"]
    assert run(["run", "a.png", "b.png", *words]) == 0
    first, *_ = sorted(Path("s").iterdir())
    first.unlink()
    first.mkdir()
    capfd.readouterr()
    assert run(["run", "a.png", "b.png", *words, "--on-exists", "overwrite"]) == 4
    said = capfd.readouterr().err
    assert first.name in said
    assert "internal" not in said
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.png", "b.png"]
