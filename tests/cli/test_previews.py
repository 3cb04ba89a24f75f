"""Looking at pictures while they form: in the terminal, and as an animation beside the result."""

from __future__ import annotations

import json
import os
import re
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from helpers.cli import environment, events, leftovers, one_line, photo, sdedit
from PIL import Image

from sdedit_cli.batch.looking import SHARE, Frames, Looking, Sparing
from sdedit_cli.cli.main import run
from sdedit_cli.cli.previews import remembered
from sdedit_cli.cli.render import Reporter
from sdedit_cli.engine.company import Preview

_STEPS = ["--steps", "6", "--strength", "0.5", "--seed", "1", "--dtype", "fp32", "--device", "cpu"]


def _durations(path: Path) -> tuple[str, int, list[float]]:
    """Format, number of frames, and how long each is shown."""
    with Image.open(path) as image:
        times: list[float] = []
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            image.load()
            times.append(image.info["duration"])
        return str(image.format), len(times), times


def test_an_animation_has_a_frame_a_step_and_ends_with_the_picture(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    photo(folder / "a.png", (40, 30))
    assert run(["run", "a.png", "-o", "plain.png", *_STEPS]) == 0
    capfd.readouterr()
    for name, format in (("a.webp", "WEBP"), ("a.gif", "GIF"), ("b.png", "PNG")):
        assert run(["run", "a.png", "-o", f"{name}.png", "--animate", name, "--json", *_STEPS]) == 0
        told = events(capfd.readouterr().out)
        (saved,) = (event for event in told if event["event"] == "saved")
        assert saved["animation"] == name
        assert _durations(folder / name) == (format, 3, [100, 100, 1500])
        # Looking changes nothing of what is looked at.
        assert (folder / f"{name}.png").read_bytes() == (folder / "plain.png").read_bytes()
    with Image.open("b.png") as film, Image.open("plain.png") as still:
        assert film.size == still.size
        film.seek(2)
        assert film.convert("RGB").tobytes() == still.convert("RGB").tobytes()
        film.seek(0)
        first = film.convert("RGB").tobytes()
    assert run(["run", "a.png", "-o", "f.png", "--animate", "full.png", "--animate-full", *_STEPS]) == 0
    with Image.open("full.png") as film:
        assert film.n_frames == 3  # type: ignore[attr-defined]
        assert film.convert("RGB").tobytes() != first
    assert not leftovers(folder)


def test_a_film_is_an_mp4_of_the_same_frames(folder: Path) -> None:
    """Ten frames a second, the last for as long as elsewhere; sides that do not halve grow by their edge; what is
    transparent stands on its ground."""
    av = pytest.importorskip("av")
    with Image.open(photo(folder / "a.png", (41, 30))) as image:
        image.putalpha(Image.linear_gradient("L").resize(image.size))
        image.save("a.png")
    for name in ("x", "y"):
        assert run(["run", "a.png", "-o", f"{name}.png", "--animate", f"{name}.mp4", *_STEPS]) == 0
    assert Path("x.mp4").read_bytes() == Path("y.mp4").read_bytes()
    with av.open("x.mp4") as film, Image.open("x.png") as last:
        frames = [frame.to_image() for frame in film.decode(video=0)]
        assert (film.streams.video[0].average_rate, film.streams.video[0].codec_context.name) == (10, "h264")
        assert (len(frames), frames[-1].size) == (2 + 15, (42, 30))
        whole = last.convert("RGBA")
        wanted = Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole).convert("RGB")
    assert np.abs(np.asarray(frames[-1]).astype(int)[:, :41] - np.asarray(wanted)).mean() < 8
    assert not leftovers(folder)


def test_without_an_encoder_it_is_said_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    photo(folder / "a.png")
    monkeypatch.setitem(sys.modules, "av", None)
    assert run(["run", "a.png", "-o", "o.png", "--animate", "x.mp4", *_STEPS]) == 2
    assert "pip install 'sdedit-cli[film]', or take .webp" in " ".join(capfd.readouterr().err.split())
    assert [path.name for path in folder.iterdir()] == ["a.png"]


def test_several_pictures_have_an_animation_each(folder: Path) -> None:
    for name in ("a.png", "b.png"):
        photo(folder / name, (32, 32))
    words = ["run", "a.png", "b.png", "--count", "2", "-o", "o/", *_STEPS[2:], "--steps", "2"]
    assert run([*words, "--animate", "films/"]) == 0
    assert sorted(path.name for path in (folder / "films").iterdir()) == [
        "a-1.webp",
        "a-2.webp",
        "b-1.webp",
        "b-2.webp",
    ]
    assert run([*words, "--animate", "t/{stem}-{seed}.gif", "--on-exists", "overwrite"]) == 0
    assert sorted(path.name for path in (folder / "t").iterdir()) == ["a-1.gif", "a-2.gif", "b-1.gif", "b-2.gif"]


def test_masks_rounds_and_transparency_are_seen_on_the_way(folder: Path) -> None:
    """What is kept is there from the first frame on, and rounds are counted as steps are."""
    photo(folder / "a.png", (32, 32), "RGBA")
    with Image.open("a.png") as image:
        image.putalpha(Image.linear_gradient("L").resize((32, 32)))
        image.save("a.png")
    mask = Image.new("L", (32, 32))
    mask.paste(255, (0, 0, 32, 16))
    mask.save("m.png")
    assert run(["run", "a.png", "-o", "o.png", "--mask", "m.png", "--repeats", "2", "--animate", "x.png", *_STEPS]) == 0
    with Image.open("x.png") as film, Image.open("a.png") as before, Image.open("o.png") as after:
        assert film.n_frames == 6  # type: ignore[attr-defined]
        assert film.mode == after.mode == "RGBA"
        kept = (0, 16, 32, 32)
        assert film.crop(kept).tobytes() == before.crop(kept).tobytes() == after.crop(kept).tobytes()


@pytest.mark.parametrize("name", ["x.webp", "x.gif", "x.png"])
def test_an_animation_of_one_step_is_a_still(folder: Path, name: str) -> None:
    photo(folder / "a.png", (16, 16))
    assert run(["run", "a.png", "-o", "o.png", "--animate", name, *_STEPS[2:], "--steps", "2"]) == 0
    with Image.open(name) as still:
        assert (getattr(still, "n_frames", 1), still.size) == (1, (16, 16))


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--animate", "x.webm"], 2, "take .mp4 or .webp"),
        (["--animate", "x.jpg"], 2, "'.jpg' is no animation; expected .webp, .gif, .png, .apng, .mp4"),
        (["--animate", "x"], 2, "no animation"),
        (["--animate", "{nothing}.webp"], 2, "--animate {nothing}.webp: has '{nothing}'"),
        (["--animate", "o.png"], 2, "is the name of another output"),
        (["--animate", "a.png"], 3, "exists already"),
        (["--animate", "a.png/x.webp"], 3, "cannot be a folder"),
        (["--animate-full"], 2, "is for --animate"),
        (["--animate", "x.webp", "--frames", "all"], 2, "exclude each other"),
        (["--preview-as", "film"], 2, "'film' is not one of"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    folder: Path, words: list[str], code: int, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    photo(folder / "a.png")
    assert run(["run", "a.png", "-o", "o.png", *words, *_STEPS]) == code
    assert said in " ".join(capfd.readouterr().err.split())
    assert [path.name for path in folder.iterdir()] == ["a.png"]


@pytest.mark.parametrize("option", ["--preview", "--animate=x.webp"])
def test_a_batch_says_that_run_has_them(folder: Path, option: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["batch", "in", option]) == 2
    assert "'sdedit run' has it" in capfd.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a disk that is always full")
def test_an_animation_that_cannot_be_written_leaves_the_picture_and_nothing_else(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    photo(folder / "a.png")
    (folder / "x.webp").symlink_to("/dev/full")
    assert run(["run", "a.png", "-o", "o.png", "--animate", "x.webp", *_STEPS]) == 3
    assert "x.webp: cannot be written (No space left on device)" in one_line(capfd.readouterr().err)
    assert sorted(path.name for path in folder.iterdir()) == ["a.png", "o.png", "x.webp"]


def test_nothing_is_shown_where_no_terminal_is(folder: Path) -> None:
    photo(folder / "a.png")
    done = sdedit("run", "a.png", "--preview-as", "blocks", *_STEPS, cwd=folder)
    assert done.returncode == 0
    assert b"\x1b" not in done.stderr + done.stdout


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such terminals")
def test_a_terminal_shows_the_picture_as_it_forms_and_is_left_clean(folder: Path) -> None:
    import pty
    import subprocess
    import sys

    photo(folder / "a.png")
    assert run(["run", "a.png", "-o", "plain.png", *_STEPS]) == 0
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "sdedit_cli", "run", "a.png", "--preview", *_STEPS],
        cwd=folder,
        env=environment(TERM="xterm-256color", COLORTERM="truecolor", COLUMNS="60", LINES="24"),
        stdin=theirs,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    told = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # Linux says so that nobody is there to write any more
            break
        if not piece:
            break
        told += piece
    os.close(ours)
    assert process.wait() == 0
    text = told.decode()
    assert re.search(r"\x1b\[38;2;\d+;\d+;\d+;48;2;\d+;\d+;\d+m▀", text)
    assert text.rindex("\x1b[J") > text.rindex("▀")
    assert (folder / "a.edited.png").read_bytes() == (folder / "plain.png").read_bytes()


def test_looks_cost_no_more_than_their_share() -> None:
    now = 0.0
    looks: list[float] = []

    def look() -> None:
        nonlocal now
        looks.append(now)
        now += 0.5

    sparing = Sparing(lambda: now)
    for _ in range(400):
        now += 0.1  # a step
        sparing.look(lambda: look)
    between = [later - earlier for earlier, later in pairwise(looks[1:])]
    assert len(between) > 3
    assert min(between) >= 0.5 / SHARE
    assert max(between) <= 0.5 / SHARE + 0.11


def test_what_was_found_of_an_autoencoder_is_kept_as_far_as_the_disk_allows(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int] = []

    def find() -> list[list[float]]:
        found.append(1)
        return [[1.0, 2.0, 3.0]]

    for _ in range(2):
        assert remembered("a", find) == [[1.0, 2.0, 3.0]]
    assert len(found) == 1
    (cache,) = folder.parent.rglob("sketches.json")
    for broken in ("", "[]", '{"a": 1}', '{"a": [[1.0]]}', '{"a": [[1.0, 2.0, "x"]]}', "[" * 100_000):
        cache.write_text(broken)
        assert remembered("a", find) == [[1.0, 2.0, 3.0]]
    assert len(found) == 7
    assert json.loads(cache.read_text()) == {"a": [[1.0, 2.0, 3.0]]}
    cache.unlink()
    cache.mkdir()  # nothing can be read or written
    assert remembered("a", find) == [[1.0, 2.0, 3.0]]
    assert len(found) == 8


def test_of_pictures_made_together_one_is_shown_until_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """What forms in a terminal would else jump from picture to picture."""
    seen: list[str] = []

    class Watching(Reporter):
        def look(self, image: Image.Image) -> None:
            seen.append(image.info["of"])

    def preview(name: str) -> Preview:
        image = Image.new("RGB", (8, 8))
        image.info["of"] = name
        return Preview(lambda: [image], lambda: lambda: image)

    monkeypatch.setattr("sdedit_cli.batch.looking.Sparing", lambda: Sparing(lambda: 0.0))
    looking = Looking(Watching(), shown=True, animating=None)
    frames = {name: Frames() for name in "abc"}
    for done, names in ((1, "ab"), (2, "ab"), (3, "abc"), (4, "bc"), (5, "c")):
        for name in names:
            looking.step(frames[name], done, {"a": 3, "b": 4, "c": 6}[name], preview(name))
    assert "".join(seen) == "aabcc"
