"""Animations: all frames are edited with one seed, and keep their times, turns and transparency."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from helpers.cli import QUICK, one_line, photo
from PIL import Image, features

from sdedit_cli.cli.main import run
from sdedit_cli.errors import OutputError, PictureError
from sdedit_cli.options import Edit
from sdedit_cli.pictures import xmp
from sdedit_cli.pictures.carriers import carried, find
from sdedit_cli.pictures.containers import said_by_gif
from sdedit_cli.pictures.encode import encode, encode_film
from sdedit_cli.pictures.film import check, read_film
from sdedit_cli.pictures.prepared import prepared
from sdedit_cli.pictures.record import Record

WORDS = ("-p", "a cat", "-q", *QUICK)
TIMES = [100, 40, 250]
AVIF = pytest.param("avif", marks=pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF"))
OUTPUTS = ["gif", "webp", "png"]
INPUTS = [*OUTPUTS, AVIF]
RECORD = Record(Edit(prompt="a cat", seed=5, steps=20).saved(), 48, 32, sampler="Euler", version="1")


def film(path: Path, *, clear: bool = False, loop: int | None = 0, **options: object) -> Path:
    """An animation of three frames: a square that wanders over green, or over nothing."""
    frames = []
    for n in range(3):
        frame = Image.new("RGBA", (48, 32), (0, 0, 0, 0) if clear else (20, 120, 20, 255))
        frame.paste((200, 40 * n, 40, 255), (12 * n, 4, 12 * n + 16, 20))
        frames.append(frame if clear else frame.convert("RGB"))
    how = {} if loop is None or path.suffix == ".avif" else {"loop": loop}
    if path.suffix == ".gif" and clear:
        how["disposal"] = 2
    how |= {"lossless": True} if path.suffix == ".webp" else {}
    if clear and path.suffix == ".webp":  # Pillow's own loses the transparency
        picture = read_film(str(film(path.with_suffix(".png"), clear=True, loop=loop)), 100)
        assert picture.film is not None
        path.write_bytes(
            encode_film(picture.film, [one.rgb for one in picture.film.frames], "webp", {"lossless": True})
        )
        return path
    how |= {"save_all": True, "append_images": frames[1:], "duration": TIMES}
    frames[0].save(path, **(how | options))
    return path


def shown(path: Path) -> tuple[list[np.ndarray], list[float]]:
    """The frames of an animation as another program sees them, and how long it shows each."""
    frames, times = [], []
    with Image.open(path) as image:
        for n in range(image.n_frames):
            image.seek(n)
            frames.append(np.asarray(image.convert("RGBA")).astype(int))
            times.append(image.info["duration"])
    return frames, times


@pytest.mark.parametrize("clear", [False, True], ids=["opaque", "clear"])
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("given", INPUTS)
def test_frames_keep_their_times_turns_and_transparency(folder: Path, given: str, output: str, clear: bool) -> None:
    path = film(folder / f"in.{given}", clear=clear, loop=3)
    picture = read_film(str(path), 100)
    assert picture.film is not None
    assert list(picture.film.milliseconds) == TIMES
    extra = carried(RECORD, output, picture.beside, picture.rgb.size).arguments
    data = encode_film(picture.film, [one.rgb for one in picture.film.frames], output, extra)
    assert encode_film(picture.film, [one.rgb for one in picture.film.frames], output, extra) == data
    out = folder / f"out.{output}"
    out.write_bytes(data)
    (before, _), (after, times) = shown(path), shown(out)
    assert times == TIMES
    for was, now in zip(before, after, strict=True):
        assert np.array_equal(was[..., 3], now[..., 3])
        visible = was[..., 3] > 0
        assert np.abs(was - now)[visible].mean() <= 6
    with Image.open(out) as image:
        assert image.info.get("loop") == (0 if given == "avif" else 3)
    assert xmp.DIGITAL_SOURCE_TYPE.encode() in read_film(str(out), 100).beside.xmp
    assert find(out).layer.values["steps"] == 20


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
def test_exiftool_reads_the_mark_of_a_gif(folder: Path) -> None:
    image = Image.new("RGB", (9, 9))
    extra = carried(RECORD, "gif", size=image.size).arguments
    (folder / "a.gif").write_bytes(encode(image, None, None, "gif", extra))
    command = ["exiftool", "-j", "-G1", str(folder / "a.gif")]
    (facts,) = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert facts["XMP-iptcExt:DigitalSourceType"] == xmp.DIGITAL_SOURCE_TYPE
    assert "ExifTool:Warning" not in facts


def test_a_gif_that_plays_once_plays_once(folder: Path) -> None:
    picture = read_film(str(film(folder / "in.gif", loop=None)), 100)
    assert picture.film is not None
    for output in ("gif", "webp", "png"):
        out = folder / f"out.{output}"
        out.write_bytes(encode_film(picture.film, [one.rgb for one in picture.film.frames], output, {}))
        with Image.open(out) as image:
            assert image.info.get("loop") == (None if output == "gif" else 1)


def test_every_frame_is_the_edit_of_that_frame_alone(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    film(folder / "in.webp")
    assert run(["run", "in.webp", *WORDS, "--frames", "all", "--lossless", "-o", "out.webp"]) == 0
    frames, times = shown(folder / "out.webp")
    assert times == TIMES
    for n in (0, 2):
        Image.fromarray(shown(folder / "in.webp")[0][n].astype(np.uint8)).convert("RGB").save("one.png")
        assert run(["run", "one.png", *WORDS, "-o", f"{n}.png"]) == 0
        with Image.open(f"{n}.png") as alone:
            assert np.array_equal(np.asarray(alone.convert("RGB")), frames[n][..., :3])
    found = find("out.webp")
    assert (found.exact, found.layer.values["frames"]) == (True, "all")
    assert run(["run", "in.webp", "-p", "a cat", *QUICK, "-o", "still.png"]) == 0
    assert "3 frames; the first is edited" in capfd.readouterr().err


@pytest.mark.parametrize("ending", ["png", "gif", "webp"])
def test_each_frame_has_its_own_colours_under_its_transparency(folder: Path, ending: str) -> None:
    """A mask of black keeps every frame, and not the first one's colours for all."""
    film(folder / f"in.{ending}", clear=True)
    Image.new("L", (48, 32)).save("black.png")
    lossless = ("--lossless",) if ending == "webp" else ()
    call = ("run", f"in.{ending}", *WORDS, "--frames", "all", "--mask", "black.png", *lossless, "-o", f"out.{ending}")
    assert run(call) == 0
    for before, after in zip(shown(folder / f"in.{ending}")[0], shown(folder / f"out.{ending}")[0], strict=True):
        visible = before[..., 3] > 0
        assert visible.any()
        assert np.array_equal(before[visible], after[visible])


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_picture_for_readers_without_animations_is_no_frame_of_the_output(folder: Path, output: str) -> None:
    film(folder / "in.png", default_image=True, append_images=[Image.new("RGB", (48, 32), (n, 0, 0)) for n in (9, 99)])
    Image.linear_gradient("L").resize((48, 32)).save("mask.png")
    for name, more in (("plain", ()), ("masked", ("--mask", "mask.png"))):
        out = folder / f"{name}.{output}"
        assert run(["run", "in.png", *WORDS, "--frames", "all", *more, "-o", str(out)]) == 0
        assert len(shown(out)[1]) == 2


def test_what_has_one_frame_is_a_picture_as_any(folder: Path) -> None:
    Image.new("RGB", (48, 32)).save(folder / "a.gif")
    pages = [Image.new("RGB", (48, 32), (n, n, n)) for n in range(3)]
    pages[0].save(folder / "a.tif", save_all=True, append_images=pages[1:])
    for name, notes in (("a.gif", ()), ("a.tif", ("--frames all is for animations",))):
        picture = prepared(name, 100, Edit(frames="all"))
        assert picture.film is None
        assert [any(note.endswith(said) for note in picture.notes) for said in notes] == [True] * len(notes)
        assert len(picture.notes) == len(notes)


@pytest.mark.parametrize("output", OUTPUTS)
def test_frames_that_are_all_alike_are_written(folder: Path, output: str) -> None:
    """Encoders make a still of them, which is what they are."""
    picture = read_film(str(film(folder / "in.webp")), 100)
    assert picture.film is not None
    same = [picture.film.frames[0].rgb] * 3
    (folder / f"out.{output}").write_bytes(encode_film(picture.film, same, output, {}))
    with Image.open(folder / f"out.{output}") as image:
        assert image.size == (48, 32)
    # A still of frames that differ is still refused.
    one = encode(picture.film.frames[0].rgb, None, None, output)
    with pytest.raises(OutputError, match="reads back as another one"):
        check(one, picture.film, output, alike=False)


def test_a_gif_is_replayed_from_itself(folder: Path) -> None:
    """It has all settings, those too that the text of web UIs has no words for, whatever their length."""
    photo(folder / "a.png")
    words = ["-p", "a 'cat', \"so\" 🐱\n" + "very " * 300 + "small", "--steps", "4", "--strength", "0.6..0.3"]
    more = ["--repeats", "2", "--color", "keep", "--seed", "5", "--device", "cpu"]
    assert run(["run", "a.png", *words, *more, "-q", "-o", "x.gif"]) == 0
    found = find("x.gif")
    assert found.exact
    assert (found.layer.values["repeats"], found.layer.values["color"]) == (2, "keep")
    assert run(["run", "a.png", "--like", "x.gif", "-q", "--device", "cpu", "-o", "y.gif"]) == 0
    assert Path("y.gif").read_bytes() == Path("x.gif").read_bytes()
    with Image.open("x.gif") as image:
        assert image.info["comment"].startswith(words[1][:10].encode())


@pytest.mark.parametrize("cut", [5, 12, 13, 40, 300])
def test_a_gif_that_ends_early_has_what_is_there(cut: int) -> None:
    data = encode(Image.new("RGB", (9, 9)), None, None, "gif", carried(RECORD, "gif", size=(9, 9)).arguments)
    whole = said_by_gif(data)
    assert whole.startswith("{")
    assert whole.startswith(said_by_gif(data[:cut]))


def test_a_size_and_a_ground_hold_for_every_frame(folder: Path) -> None:
    film(folder / "in.webp", clear=True)
    picture = prepared("in.webp", 100, Edit(frames="all", size="24x16", alpha="drop", background="#0000ff"))
    assert picture.film is not None
    assert {(one.rgb.size, one.alpha) for one in picture.film.frames} == {((24, 16), None)}
    assert {one.rgb.getpixel((23, 15)) for one in picture.film.frames} == {(0, 0, 255)}


def test_frames_beyond_the_limit_and_broken_ones_are_refused(folder: Path) -> None:
    film(folder / "in.webp")
    with pytest.raises(PictureError, match="3 frames of 48 x 32 pixels, over the limit"):
        read_film("in.webp", 0.003)
    whole = film(folder / "in.gif").read_bytes()
    (folder / "cut.gif").write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(PictureError, match="cut short"):
        read_film("cut.gif", 100)


def beyond_the_screen(path: Path) -> Path:
    """A GIF of 48 x 32 pixels whose second frame says that it begins further to the right and down."""
    data = bytearray(film(path).read_bytes())
    second = data.index(b"!\xf9", data.index(b"!\xf9") + 1) + 8
    assert data[second] == ord(",")
    data[second + 1 : second + 5] = bytes((40, 0, 30, 0))
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("output", OUTPUTS)
def test_what_a_frame_has_beyond_the_screen_is_not_shown(folder: Path, output: str) -> None:
    beyond_the_screen(folder / "in.gif")
    assert run(["run", "in.gif", *WORDS, "--frames", "all", "-o", f"out.{output}"]) == 0
    with Image.open(f"out.{output}") as image:
        assert image.size == (48, 32)


def test_frames_that_grow_are_held_to_the_limit_at_the_size_that_they_have_then(folder: Path) -> None:
    beyond_the_screen(folder / "in.gif")
    with pytest.raises(PictureError, match=r"3 frames of \d\d x \d\d pixels, over the limit"):
        read_film("in.gif", 3.5 * 48 * 32 / 1e6)


def test_a_format_that_does_not_move_is_refused(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    film(folder / "in.gif")
    for name, format in (("x.jpg", "jpeg"), ("x.avif", "avif")):
        assert run(["run", "in.gif", *WORDS, "--frames", "all", "-o", name]) == 2
        said = one_line(capfd.readouterr().err)
        assert f"frames all: {format} cannot be that; take --format png, webp or gif" in said
        assert not Path(name).exists()
