"""Masks on the command line: what is kept byte for byte, which mask files are read and how, batches of them, and what a
picture records of its mask."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cli import QUICK, events, photo
from PIL import Image

from sdedit_cli.cli.main import run
from sdedit_cli.cli.render import Reporter

EDIT = ("-p", "a face", "-q", "--on-exists", "overwrite", *QUICK)
SIZE = (40, 30)


def levels(left: int = 255, right: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    found = np.full(size[::-1], right, np.uint8)
    found[:, : size[0] // 2] = left
    return found


def saved(name: str, image: Image.Image | np.ndarray, **options: Any) -> str:
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(name, **options)
    return name


def edited(*more: str, source: str = "in.png", to: str = "out.png") -> np.ndarray:
    assert run(["run", source, "-o", to, *EDIT, *more]) == 0
    with Image.open(to) as made:
        return np.asarray(made)


@pytest.fixture
def place(folder: Path) -> Path:
    photo(folder / "in.png", SIZE)
    saved("mask.png", levels())
    return folder


def sprite(name: str) -> np.ndarray:
    """A picture with all degrees of transparency, over colours that show nowhere."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (SIZE[1], SIZE[0], 4), dtype=np.uint8)
    pixels[:, SIZE[0] // 2 :, 3] = np.linspace(0, 255, SIZE[0] - SIZE[0] // 2).astype(np.uint8)
    pixels[:6, :, 3] = 0
    Image.fromarray(pixels).save(name)
    return pixels


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("--masked-area", "crop"),
        ("--mask-mode", "blend"),
        ("--mask-feather", "3"),
        ("--tile", "64:16"),
        ("--seamless", "xy", "--masked-area", "crop"),
        ("--color", "keep"),
    ],
    ids=" ".join,
)
def test_what_is_black_has_the_files_own_bytes_under_transparency_too(place: Path, more: tuple[str, ...]) -> None:
    before = sprite("in.png")
    after = edited("--mask", "mask.png", *more)
    kept = levels() == 0
    assert np.array_equal(after[kept], before[kept])
    assert np.array_equal(after[..., 3], before[..., 3])
    assert (after[~kept] != before[~kept]).any()


def test_alpha_edits_what_is_opaque_and_keeps_what_is_not(place: Path) -> None:
    before = sprite("in.png")
    after = edited("--mask", "alpha")
    clear = before[..., 3] == 0
    assert np.array_equal(after[clear], before[clear])
    assert (after[~clear] != before[~clear]).any()
    assert np.array_equal(after[..., 3], before[..., 3])


@pytest.mark.parametrize("mask", ["mask.png", "black.png"])
def test_what_is_black_is_kept_in_16_bits_too(place: Path, mask: str) -> None:
    """Both bytes of a kept number are that of the input: 257 times its level."""
    saved("black.png", Image.new("L", SIZE, 0))
    before = np.asarray(Image.open("in.png"))
    upper = edited("--mask", mask, "--bits", "16")
    lower_first: Any = Image.open("out.png")
    lower_first.tile = [(codec, box, at, "RGB;16L") for codec, box, at, _ in lower_first.tile]
    kept = np.asarray(Image.open(mask)) == 0
    for half in (upper, np.asarray(lower_first)):
        assert np.array_equal(half[kept], before[kept])


def test_every_frame_keeps_what_is_black(place: Path) -> None:
    frames = [Image.fromarray(np.random.default_rng(k).integers(0, 256, (30, 40, 3), dtype=np.uint8)) for k in (1, 2)]
    frames[0].save("in.png", save_all=True, append_images=frames[1:], duration=100)
    edited("--mask", "mask.png", "--frames", "all")
    with Image.open("out.png") as made:
        for k, frame in enumerate(frames):
            made.seek(k)
            after, before = np.asarray(made.convert("RGB")), np.asarray(frame)
            assert np.array_equal(after[:, 20:], before[:, 20:])
            assert (after[:, :20] != before[:, :20]).any()


def test_a_dropped_transparency_may_be_the_mask(place: Path) -> None:
    sprite("in.png")
    after = edited("--mask", "alpha", "--alpha", "drop")
    assert after.shape == (30, 40, 3)
    assert (after[:6] == 255).all()  # clear there: the ground


def test_an_opaque_picture_has_no_alpha_to_take(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", "in.png", "-o", "x.png", *EDIT, "--mask", "alpha"]) == 3
    assert "in.png: has no transparency for --mask alpha" in capsys.readouterr().err
    assert not Path("x.png").exists()


def turned() -> Image.Image:
    return Image.fromarray(levels()).transpose(Image.Transpose.ROTATE_90)


def deep() -> Image.Image:
    return Image.fromarray(levels().astype(np.uint16) * 257)


def see_through() -> Image.Image:
    """White, and transparent where it shall keep."""
    white = Image.new("RGBA", SIZE, "white")
    white.putalpha(Image.fromarray(levels()))
    return white


KINDS: dict[str, Callable[[], str]] = {
    "bit": lambda: saved("m.png", Image.fromarray(levels()).convert("1")),
    "palette": lambda: saved("m.png", Image.fromarray(levels()).convert("P")),
    "rgb": lambda: saved("m.webp", Image.fromarray(levels()).convert("RGB"), lossless=True),
    "16 bit": lambda: saved("m.png", deep()),
    "transparent": lambda: saved("m.png", see_through()),
    "turned": lambda: saved("m.png", turned(), exif=_turns(6)),
    "tiff": lambda: saved("m.tif", levels()),
}


def _turns(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("kind", KINDS)
def test_any_picture_may_be_a_mask(place: Path, kind: str) -> None:
    assert np.array_equal(edited("--mask", KINDS[kind]()), edited("--mask", "mask.png"))


def test_luminance_counts(place: Path) -> None:
    saved("red.png", Image.new("RGB", SIZE, (255, 0, 0)))
    saved("gray.png", Image.new("L", SIZE, 76))  # 0.299 of white
    more = ("--strength", "1", "--steps", "8")
    assert np.array_equal(edited("--mask", "red.png", *more), edited("--mask", "gray.png", *more))


def test_a_mask_is_inverted_then_grown_then_blurred(place: Path) -> None:
    before = np.asarray(Image.open("in.png"))

    def changed(*more: str) -> list[int]:
        """The columns that are not kept, first and last."""
        where = np.flatnonzero((edited("--mask", "mask.png", *more) != before).any((0, 2)))
        return [int(where[0]), int(where[-1])]

    assert changed() == [0, 19]
    assert changed("--invert-mask") == [20, 39]
    assert changed("--mask-grow", "5") == [0, 24]
    assert changed("--mask-grow", "-7") == [0, 12]
    assert changed("--invert-mask", "--mask-grow", "3") == [17, 39]
    first, last = changed("--mask-blur", "3", "--steps", "40")
    assert (first, 20 <= last <= 29) == (0, True)


@pytest.mark.parametrize(
    "more", [("--size", "57x23"), ("--max-side", "20"), ("--max-side", "20", "--masked-area", "crop")]
)
def test_a_mask_is_brought_to_the_size_that_its_picture_is(place: Path, more: tuple[str, ...]) -> None:
    size = (57, 23) if more[0] == "--size" else (20, 15)
    after = edited("--mask", "mask.png", *more)
    plain = np.asarray(Image.open("in.png").resize(size, Image.Resampling.LANCZOS))
    assert np.array_equal(after[:, size[0] // 2 + 2 :], plain[:, size[0] // 2 + 2 :])
    assert (after[:, : size[0] // 2 - 2] != plain[:, : size[0] // 2 - 2]).any()


@pytest.mark.parametrize("more", [("--size", "48x48", "--resize", "pad"), ("--upscale", "1.5"), ("--seamless", "x")])
def test_white_is_no_mask_however_a_picture_is_sized(place: Path, more: tuple[str, ...]) -> None:
    saved("white.png", levels(255, 255))
    assert np.array_equal(edited(*more, "--mask", "white.png"), edited(*more))


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (lambda: saved("m.png", levels(size=(64, 48))), "this mask is 64 x 48 and the picture in.png is 40 x 30"),
        (lambda: "none.png", "none.png: no such file"),
        (lambda: "-", "stdin is for the picture"),
        (lambda: str(Path("text.png").write_text("x") and "text.png"), "text.png"),
    ],
    ids=["size", "missing", "stdin", "text"],
)
@pytest.mark.parametrize("more", [(), ("--dry-run",)], ids=["run", "dry"])
def test_a_mask_that_cannot_be_is_said_and_nothing_written(
    place: Path, capsys: pytest.CaptureFixture[str], mask: Callable[[], str], words: str, more: tuple[str, ...]
) -> None:
    before = sorted(Path().iterdir())
    assert run(["run", "in.png", "-o", "x.png", *EDIT, "--mask", (name := mask()), *more]) == 3
    assert words in capsys.readouterr().err
    assert sorted(Path().iterdir()) == sorted({*before, *([Path(name)] if Path(name).exists() else [])})


def test_a_mask_that_keeps_everything_gives_the_input_and_says_so(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    saved("dark.png", Image.new("L", SIZE, 3))
    assert run(["run", "in.png", "-o", "x.png", *EDIT, "--mask", "dark.png", "--json"]) == 0
    told = events(capfd.readouterr().out)
    assert any("nothing is edited" in one.get("message", "") for one in told)
    assert np.array_equal(np.asarray(Image.open("x.png")), np.asarray(Image.open("in.png")))


def test_a_picture_tells_its_mask_and_like_tells_what_it_lacks(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edited("--mask", "mask.png", "--mask-grow", "2", "--masked-area", "crop", to="made.png")
    texts = Image.open("made.png").text
    block = json.loads(texts["sdedit"])
    (told,) = [one for one in block["ingredients"] if one["kind"] == "mask"]
    assert (told["name"], len(told["sha256"])) == ("mask", 64)
    assert "Mask: mask, Mask hash: " in texts["parameters"]
    assert "Mask grow: 2" in texts["parameters"]
    again = ("run", "in.png", "--like", "made.png", "--device", "cpu")
    capsys.readouterr()
    assert run([*again, "-o", "without.png"]) == 0
    assert "give the mask again with --mask" in capsys.readouterr().err
    assert run([*again, "-o", "with.png", "--mask", "mask.png"]) == 0
    assert "mask" not in capsys.readouterr().err.replace("mask.png", "")
    assert Path("with.png").read_bytes() == Path("made.png").read_bytes()
    assert Path("without.png").read_bytes() != Path("made.png").read_bytes()
    saved("mask.png", levels(0, 255))
    assert run([*again, "-o", "other.png", "--mask", "mask.png"]) == 0
    assert "another mask" in capsys.readouterr().err


def test_a_picture_masked_by_its_own_alpha_is_replayed_from_itself(place: Path) -> None:
    sprite("in.png")
    edited("--mask", "alpha", "--mask-grow", "-1", to="made.png")
    assert run(["run", "in.png", "--like", "made.png", "--device", "cpu", "-o", "again.png"]) == 0
    assert Path("again.png").read_bytes() == Path("made.png").read_bytes()


# --- batches -------------------------------------------------------------------------------------------------------


@pytest.fixture
def several(place: Path) -> Path:
    for name in ("in/a.png", "in/b.png", "in/sub/c.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        photo(Path(name), SIZE)
    for name in ("masks/a.bmp", "masks/b.png", "masks/sub/c.tif"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        saved(name, levels())
    return place


def batch(*more: str, source: str = "in") -> int:
    return run(["batch", source, "out", "--recursive", "-p", "a face", *QUICK, *more])


def is_half(name: str) -> bool:
    after, before = np.asarray(Image.open(f"out/{name}")), np.asarray(Image.open(f"in/{name}"))
    differs = (after != before).any(-1)
    return bool(differs[:, : SIZE[0] // 2].any() and not differs[:, SIZE[0] // 2 :].any())


def test_each_picture_of_a_batch_has_its_mask_and_a_changed_one_is_made_again(
    several: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert batch("--mask-dir", "masks") == 0
    assert all(map(is_half, ("a.png", "b.png", "sub/c.png")))
    assert batch("--mask-dir", "masks", "--check") == 0
    saved("masks/b.png", levels(0, 255))
    capfd.readouterr()
    assert batch("--mask-dir", "masks", "--check", "--json") == 6
    stale = [one for one in events(capfd.readouterr().out) if one["event"] == "stale"]
    assert [(one["output"], one["reason"]) for one in stale] == [("out/b.png", "mask changed")]


def test_masks_within_the_source_are_no_pictures_to_edit(several: Path) -> None:
    Path("masks").rename("in/masks")
    assert batch("--mask-dir", "in/masks") == 0
    assert sorted(p.name for p in Path("out").rglob("*.png")) == ["a.png", "b.png", "c.png"]


def test_pictures_in_the_folder_of_masks_are_edited(several: Path) -> None:
    Path("in").rename("masks/in")
    assert batch("--mask-dir", "masks", source="masks/in") == 0
    assert sorted(p.name for p in Path("out").rglob("*.png")) == ["a.png", "b.png", "c.png"]


def test_no_picture_is_its_own_mask(several: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """And pictures that were taken for masks are no batch that is done."""
    assert batch("--mask-dir", "in") == 5
    assert "in/a.png: has no mask in in; expected a folder of masks beside" in capfd.readouterr().err


def test_a_picture_without_its_mask_fails_alone(several: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("masks/b.png").unlink()
    saved("masks/a.png", levels())  # beside a.bmp
    assert batch("--mask-dir", "masks", "--json") == 4
    failed = {one["input"]: one for one in events(capfd.readouterr().out) if one["event"] == "failed"}
    assert {name: one["word"] for name, one in failed.items()} == dict.fromkeys(
        ("in/a.png", "in/b.png"), "mask-unusable"
    )
    assert "has no mask in masks" in failed["in/b.png"]["error"]
    assert is_half("sub/c.png")


def test_a_list_names_masks(several: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Of a row its own, relative to the list; `alpha` is none, whatever lies there."""
    sprite("in/b.png")
    saved("in/alpha", levels(), format="PNG")
    Path("in/jobs.csv").write_text("input,mask\na.png,../masks/a.bmp\nb.png,alpha\nsub/c.png,\n")
    assert run(["batch", "in/jobs.csv", "out", "-p", "a face", *QUICK]) == 0
    assert is_half("a.png")
    before, after = (np.asarray(Image.open(f"{folder}/b.png")) for folder in ("in", "out"))
    clear = before[..., 3] == 0
    assert np.array_equal(after[clear], before[clear])
    assert not is_half("sub/c.png")


def test_a_stream_keeps_its_model_from_mask_to_mask(
    several: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    jobs = [{"input": "in/a.png", "mask": "masks/a.bmp"}, {"input": "in/b.png", "mask": "masks/b.png"}]
    lines = "".join(json.dumps(job) + "\n" for job in jobs).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    assert run(["batch", "-", "out", "-p", "a face", *QUICK, "--json"]) == 0
    told = [one["event"] for one in events(capfd.readouterr().out)]
    assert (told.count("saved"), told.count("load")) == (2, 1)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--mask-dir", "none"), "--mask-dir none: no such folder"),
        (("--mask-dir", "in", "--mask", "mask.png"), "exclude"),
    ],
)
def test_a_folder_of_masks_that_cannot_be_is_a_mistake(
    several: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], words: str
) -> None:
    assert batch(*more) == 2
    assert words in capsys.readouterr().err


def test_a_preset_for_masks_without_a_mask_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = str(photo(tmp_path / "in.png", SIZE))
    told = []
    for more in ((), ("--preset", "inpaint")):
        out = str(tmp_path / f"{len(more)}.png")
        assert run(["run", source, "-p", "a face", "-o", out, *QUICK, *more]) == 0
        told.append("no mask (--mask)" in capfd.readouterr().err)
    assert told == [False, True]


def test_steps_are_counted_by_what_masks_leave_of_them(several: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of the bar is that of the work: a gray mask makes fewer steps, and a black one none."""
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(Reporter, "step", lambda to, done, steps: told.append((done, steps)))
    for name, level in (("a.bmp", 0), ("b.png", 128), ("sub/c.tif", 255)):
        saved(f"masks/{name}", levels(level, 0))
    assert batch("--mask-dir", "masks", "--steps", "8", "-q") == 0
    done, steps = zip(*told, strict=True)
    assert done == tuple(sorted(done))
    assert done[-1] == steps[-1] == 4 + 2, "of white and of gray, half of that"
