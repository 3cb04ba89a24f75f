"""A soak: 1,000 odd pictures of drawn modes, sizes, formats and defects through the reader, `info` and `run`."""

from __future__ import annotations

import io
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cli import QUICK, photo
from helpers.mutations import changed_bytes
from PIL import Image

from sdedit_cli.cli.main import run
from sdedit_cli.errors import PictureError
from sdedit_cli.pictures.codec import Picture, read_picture
from sdedit_cli.pictures.encode import encode

pytest.importorskip("resource", reason="bounds memory and time as Unix does")

CASES, PARTS = 1000, 4
REAL = 20  # every so many go through a real run
MEMORY = 1_000_000_000
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16", "La", "RGBa", "RGBX")
SIDES = (1, 2, 7, 8, 31, 48, 64, 65, 129, 257, 400)
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "TGA", "ICO", "JPEG2000", "PCX", "SGI")
ENDINGS = (".png", ".jpg", ".webp", ".gif", ".tif", ".txt", "", ".PNG")


def pixels(mode: str, size: tuple[int, int], draw: random.Random) -> Image.Image:
    width, height = size
    noise = np.random.default_rng(draw.randrange(1 << 30)).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(noise if draw.random() < 0.5 else np.full_like(noise, draw.choice((0, 127, 255))))
    try:
        return image.convert(mode)
    except ValueError:  # not in one step
        return image.convert("RGBA" if mode in ("La", "RGBa") else "L").convert(mode if mode != "La" else "LA")


def odd(draw: random.Random) -> bytes:
    image = pixels(draw.choice(MODES), (draw.choice(SIDES), draw.choice(SIDES)), draw)
    exif = Image.Exif()
    exif[0x0112] = draw.randrange(10)
    options: dict[str, Any] = {
        "exif": draw.choice((exif.tobytes(), b"", b"Exif\0\0" + draw.randbytes(40))),
        "icc_profile": draw.choice((None, None, draw.randbytes(200), b"\0" * 200)),
        "transparency": draw.choice((None, 0, b"\0\x80", (1, 2, 3))),
        "save_all": draw.random() < 0.1,
        "append_images": [image],
        "lossless": True,
    }
    options = {name: value for name, value in options.items() if value is not None and draw.random() < 0.5}
    format = draw.choice(FORMATS)
    for attempt in (lambda: (image, options), lambda: (image, {}), lambda: (Image.new("RGB", image.size), {})):
        held = io.BytesIO()
        try:
            one, how = attempt()
            one.save(held, format, **how)
            return held.getvalue()
        except Exception:  # a writer that does not know the mode or the option
            continue
    Image.new("RGB", image.size).save(held := io.BytesIO(), "PNG")
    return held.getvalue()


def broken(data: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(data))
    match draw.randrange(12):
        case 0:
            return data[:at]
        case 1:
            return changed_bytes(data, draw, 12)
        case 2:
            return data[:at] + bytes(draw.randint(1, 300)) + data[at:]
        case 3:
            return data + draw.choice((data, b"\0" * 1000, draw.randbytes(100)))
        case 4:
            head = min(len(data), 60)
            return changed_bytes(data[:head], draw, 3) + data[head:]
        case _:
            return data


def drawn(number: int) -> tuple[str, bytes]:
    draw = random.Random(number)
    return f"m{draw.choice(ENDINGS)}", broken(odd(draw), draw)


def read(path: Path) -> Picture | None:
    """The picture, which must be sound if it is one; None where it was refused in words."""
    words = ""
    try:
        picture = read_picture(str(path), 100.0)
    except PictureError as refusal:
        words = str(refusal)
    if words:
        assert words.startswith(str(path))
        assert len(words) < 500
        return None
    assert picture.rgb.mode == "RGB"
    assert picture.alpha is None or (picture.alpha.mode, picture.alpha.size) == ("L", picture.rgb.size)
    with Image.open(io.BytesIO(encode(picture.rgb, picture.alpha, picture.icc, "png"))) as again:
        again.load()
        assert again.size == picture.rgb.size
    return picture


def soaked(folder: Path, capfd: pytest.CaptureFixture[str], numbers: range, real: int) -> Counter[str]:
    from helpers.bounded import in_memory, in_time

    ends: Counter[str] = Counter()
    run(["run", photo(folder / "warm.png").name, *QUICK])  # what it imports and loads counts for no picture
    (folder / "warm.edited.png").unlink()
    for at, number in enumerate(numbers):
        name, data = drawn(number)
        (folder / name).write_bytes(data)
        try:
            with in_memory(MEMORY), in_time():
                picture = read(folder / name)
                ends["read" if picture else "refused"] += 1
                info = run(["info", "--no-hash", name])
                told = run(["run", name, "--dry-run", "-o", "out.png"])
                done = run(["run", name, "-o", "out.png", *QUICK]) if at % real == 0 else None
            out, err = capfd.readouterr()
            assert all(mark not in out + err for mark in ("Traceback", "internal error", "out of memory"))
            assert info in (0, 3)
            assert told == 0 if picture else told in (0, 3)
            if done is not None:
                assert done == (0 if picture else 3)
                assert (folder / "out.png").exists() == (done == 0)
                ends["edited" if done == 0 else "not edited"] += 1
                if picture:
                    with Image.open(folder / "out.png") as made:
                        assert made.size == picture.rgb.size
                    (folder / "out.png").unlink()
        except BaseException:
            print(f"case {number}")
            raise
        (folder / name).unlink()
    assert [path.name for path in folder.iterdir()] == ["warm.png"]
    return ends


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_odd_pictures_are_edited_or_refused(folder: Path, capfd: pytest.CaptureFixture[str], part: int) -> None:
    ends = soaked(folder, capfd, range(part, CASES, PARTS), REAL)
    assert ends["read"] + ends["refused"] == CASES // PARTS
    assert ends["edited"] + ends["not edited"] == -(-CASES // PARTS // REAL)
    assert ends["refused"] > CASES // PARTS // 20
    assert min(ends["read"], ends["edited"]) > 5


def test_a_few_of_them(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What every run of the tests sees of the above."""
    ends = soaked(folder, capfd, range(60), 30)
    assert min(ends["read"], ends["refused"]) > 1
    assert ends["read"] + ends["refused"] == 60
