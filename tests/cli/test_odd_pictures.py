"""Pictures of odd depths, profiles and transparency, and sound pixels among broken surroundings."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers.cli import photo
from helpers.pngs import chunk, png
from PIL import Image, ImageCms

from sdedit_cli.errors import PictureError
from sdedit_cli.pictures.codec import Picture, read_picture
from sdedit_cli.pictures.encode import encode

LIMIT = 100.0
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
RAMP = np.tile(np.linspace(0, 1, 64), (8, 1))
TEXT = b"parameters\0a pond\nSteps: 12, Sampler: Euler a, Seed: 42"


def gray_profile() -> bytes:
    """A gray profile of gamma 2.2, of the fewest tags that a colour engine takes."""
    white = struct.pack(">4s4xiii", b"XYZ ", 63190, 65536, 54061)
    gamma = struct.pack(">4s4xIH2x", b"curv", 1, 563)
    name = struct.pack(">4s4xI5s79x", b"desc", 5, b"gray\0")
    at, table = 128 + 4 + 12 * 3, struct.pack(">I", 3)
    for tag, body in ((b"desc", name), (b"wtpt", white), (b"kTRC", gamma)):
        table += struct.pack(">4sII", tag, at, len(body))
        at += len(body)
    head = struct.pack(
        ">I4xI4s4s4s12x4s28xiii", at, 0x02100000, b"mntr", b"GRAY", b"XYZ ", b"acsp", 63190, 65536, 54061
    )
    return head.ljust(128, b"\0") + table + name + white + gamma


def read(path: Path) -> Picture:
    return read_picture(str(path), LIMIT)


def levels(path: Path) -> np.ndarray:
    return np.asarray(read(path).rgb).astype(int)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "palette with alpha"])
@pytest.mark.parametrize("profile", ["gray", "srgb", "cmyk by name", "garbage"])
def test_a_profile_never_reads_pixels_that_are_not_its_own(folder: Path, mode: str, profile: str) -> None:
    icc = {"gray": gray_profile(), "srgb": SRGB, "garbage": b"\0" * 1_200_000}.get(profile, b"")
    icc = icc or SRGB[:16] + b"CMYK" + SRGB[20:]
    base = Image.open(photo(folder / "base.png"))
    image = base.convert("P" if mode == "palette with alpha" else mode)
    more = {"transparency": 3} if mode == "palette with alpha" else {}
    image.save(folder / "plain.png", **more)
    image.save(folder / "a.png", icc_profile=icc, **more)
    got, plain = read(folder / "a.png"), read(folder / "plain.png")
    used_up = profile == "gray" and mode in ("1", "L", "LA")
    # The gamma of the gray profile is near to that of sRGB, but for the darkest tones.
    assert np.abs(np.asarray(got.rgb).astype(int) - np.asarray(plain.rgb)).mean() <= (3 if used_up else 0)
    assert got.icc == (SRGB if profile == "srgb" else None)
    assert bool(got.notes) == (not used_up and profile != "srgb")


def test_a_profile_too_large_for_other_readers_is_used_up(folder: Path) -> None:
    photo(folder / "a.png", icc_profile=SRGB + b"\0" * 3_000_000)
    got = read(folder / "a.png")
    assert got.icc is None
    assert "3.0 MB" in got.notes[0]
    assert np.abs(np.asarray(got.rgb).astype(int) - levels(photo(folder / "b.png"))).max() <= 1
    with Image.open(io.BytesIO(encode(got.rgb, None, got.icc, "png"))) as again:
        again.load()


DEEP = {
    "unsigned 16": ((RAMP * 65535).astype(np.uint16), {}),
    "white is zero, 16": (((1 - RAMP) * 65535).astype(np.uint16), {"photometric": "miniswhite"}),
    "white is zero, float": ((1 - RAMP).astype(np.float32), {"photometric": "miniswhite"}),
    "signed 8": ((RAMP * 255 - 128).astype(np.int8), {}),
    "signed 16, from 0": ((RAMP * 32767).astype(np.int16), {}),
    "signed 16, whole range": ((RAMP * 65535 - 32768).astype(np.int16), {}),
    "unsigned 32": ((RAMP * (2**32 - 1)).astype(np.uint32), {}),
    "unsigned 32, of 16": ((RAMP * 65535).astype(np.uint32), {}),
    "half": (RAMP.astype(np.float16), {}),
    "double": (RAMP.astype(np.float64), {}),
    "float, big-endian": (RAMP.astype(np.float32), {"byteorder": ">"}),
    "float RGB": (np.stack([RAMP] * 3, -1).astype(np.float32), {"photometric": "rgb"}),
    "float RGB in planes": (
        np.stack([RAMP] * 3).astype(np.float32),
        {"photometric": "rgb", "planarconfig": "separate"},
    ),
    "unsigned 16 RGB": (np.stack([RAMP * 65535] * 3, -1).astype(np.uint16), {"photometric": "rgb"}),
    "signed 16 RGB": (np.stack([RAMP * 32767] * 3, -1).astype(np.int16), {"photometric": "rgb"}),
    "gray and alpha, 16": (
        np.stack([RAMP * 65535, np.full(RAMP.shape, 65535)], -1).astype(np.uint16),
        {"extrasamples": ["unassalpha"], "photometric": "minisblack"},
    ),
}


@pytest.mark.parametrize("name", DEEP)
@pytest.mark.parametrize("packed", [{}, {"compression": "zlib"}], ids=["plain", "deflate"])
def test_numbers_mean_what_the_file_says(folder: Path, name: str, packed: dict[str, str]) -> None:
    values, how = DEEP[name]
    tifffile.imwrite(folder / "a.tif", values, **{"photometric": "minisblack", **how, **packed})
    got = levels(folder / "a.tif")
    assert got.shape == (8, 64, 3)
    assert np.abs(got[..., 0] - RAMP * 255).max() <= 2


def test_twelve_bits_are_no_sixteen(folder: Path) -> None:
    wide = (RAMP * 4095).astype(np.uint16)
    packed = np.stack([wide[:, ::2] >> 4, (wide[:, ::2] & 15) << 4 | wide[:, 1::2] >> 8, wide[:, 1::2] & 255], -1)
    shorts = {256: 64, 257: 8, 258: 12, 259: 1, 262: 1, 277: 1, 278: 8}
    entries = [struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in shorts.items()]
    entries += [struct.pack("<HHII", 273, 4, 1, 8), struct.pack("<HHII", 279, 4, 1, 8 * 96)]
    directory = struct.pack("<H", len(entries)) + b"".join(sorted(entries, key=lambda e: struct.unpack("<H", e[:2])))
    data = b"II*\0" + struct.pack("<I", 8 + 8 * 96) + packed.astype(np.uint8).tobytes() + directory + bytes(4)
    (folder / "a.tif").write_bytes(data)
    assert np.abs(levels(folder / "a.tif")[..., 0] - RAMP * 255).max() <= 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a, ""),
        (lambda a: np.where(a == 1, 1.02, a), "white is taken to be 1, 8 numbers beyond"),
        (lambda a: np.where(a == 0, np.nan, a), "8 that are not finite are left out"),
        (lambda a: np.where(a == 1, np.inf, a), "not finite"),
        (lambda a: np.where(a == 0, -np.inf, a), "not finite"),
        (lambda a: a * 255, "white is taken to be 255"),
        (lambda a: np.where(a == 1, 256, a * 255), "white is taken to be 255"),
        (lambda a: a * 65535, "white is taken to be 65535"),
        (lambda a: a * 3.5, "white is taken to be 3.4"),
        (lambda a: np.where(a == 1, 1e30, a), "numbers beyond black or white"),
    ],
)
def test_one_odd_number_turns_no_picture_black(
    folder: Path, change: Callable[[np.ndarray], np.ndarray], words: str
) -> None:
    ramp = np.tile(np.linspace(0, 1, 1024), (8, 1))
    Image.fromarray(change(ramp).astype(np.float32)).save(folder / "a.tif")
    got = read(folder / "a.tif")
    assert np.abs(np.asarray(got.rgb)[..., 0].astype(int) - ramp * 255).mean() <= 2
    assert words in "".join(got.notes)
    assert bool(got.notes) == bool(words)


def test_a_picture_of_no_number_is_refused(folder: Path) -> None:
    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(folder / "a.tif")
    with pytest.raises(PictureError, match="no finite number"):
        read(folder / "a.tif")


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_transparent_gray_is_compared_at_the_files_depth(folder: Path, bits: int) -> None:
    values = np.arange(16) % (1 << bits) if bits < 16 else np.arange(16) + 0x1234
    wanted = int(values[1])
    if bits == 16:
        rows = values.astype(">u2").view(np.uint8)[None]
    else:
        ones = (values[:, None] >> np.arange(bits - 1, -1, -1)) & 1
        rows = np.packbits(ones.reshape(1, -1).astype(np.uint8), axis=1)
    (folder / "a.png").write_bytes(png(rows, bits, 0, chunk(b"tRNS", struct.pack(">H", wanted))))
    alpha = read(folder / "a.png").alpha
    assert alpha is not None
    assert np.array_equal(np.asarray(alpha)[0] == 0, values == wanted)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_transparent_colour_is_compared_at_the_files_depth(folder: Path, bits: int) -> None:
    values = np.array([[300, 301, 300], [300, 302, 300], [300, 301, 44], [301, 301, 300]]) & ((1 << bits) - 1)
    rows = values.astype(">u2" if bits == 16 else np.uint8).reshape(1, -1).view(np.uint8)
    (folder / "a.png").write_bytes(png(rows, bits, 2, chunk(b"tRNS", struct.pack(">3H", *values[0]))))
    alpha = read(folder / "a.png").alpha
    assert alpha is not None
    assert np.array_equal(np.asarray(alpha)[0] == 0, (values == values[0]).all(1))


@pytest.mark.parametrize("name", ["a.tga", "a.bmp", "a.tif", "declared.tif", "a.png"])
def test_a_channel_of_nothing_is_transparency_only_where_the_file_says_so(folder: Path, name: str) -> None:
    image = Image.open(photo(folder / "base.png")).convert("RGBA")
    image.putalpha(0)
    image.save(folder / name)
    if name.endswith("tif"):
        tifffile.imwrite(folder / name, np.asarray(image), photometric="rgb", extrasamples=["unassalpha"])
    if name == "a.tif":  # the entry of ExtraSamples renamed to one that nobody minds
        data = (folder / name).read_bytes().replace(struct.pack("<HHI", 338, 3, 1), struct.pack("<HHI", 337, 2, 1))
        (folder / name).write_bytes(data)
    if name == "a.tga":
        data = bytearray((folder / name).read_bytes())
        data[17] &= 0xF0
        (folder / name).write_bytes(data)
    got = read(folder / name)
    opaque = name in ("a.tga", "a.bmp", "a.tif")
    assert (got.alpha is None) == opaque
    assert ("0 everywhere" in "".join(got.notes)) == (opaque and name != "a.bmp")
    if opaque:
        assert np.array_equal(np.asarray(got.rgb), np.asarray(image.convert("RGB")))


PIXELS = np.tile(np.array([0x60, 0x80, 0xA0], np.uint8), (4, 8))
BROKEN = {
    "a text with a wrong checksum": chunk(b"tEXt", b"Comment\0x")[:-4] + bytes(4),
    "a packed text that is none": chunk(b"zTXt", b"Comment\0\0not packed"),
    "a text without a key": chunk(b"tEXt", b"no end of the key"),
    "an international text cut short": chunk(b"iTXt", b"k\0\1"),
    "a large packed text": chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b"ab12" * 400_000)),
    "a huge text": chunk(b"tEXt", b"workflow\0" + b"x" * 66_000_000),
    "a text that unfolds without end": chunk(b"zTXt", b"workflow\0\0" + zlib.compress(bytes(100_000_000), 9)),
    "a profile that is none": chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(1_200_000))),
    "a profile that is not packed": chunk(b"iCCP", b"p\0\0xx"),
    "EXIF that is none": chunk(b"eXIf", b"Camera notes"),
    "EXIF of nothing": chunk(b"eXIf", b""),
    "EXIF cut short": chunk(b"eXIf", b"II*\0\x08\0\0\0\x05\0\x12\x01"),
    "hex that is none": chunk(b"tEXt", b"Raw profile type exif\0\nexif\n  9\nzz not hex\n"),
    "a date of one byte": chunk(b"tIME", b"x"),
    "a resolution of one byte": chunk(b"pHYs", b"x"),
    "an animation of nothing": chunk(b"acTL", b""),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("behind", [False, True])
def test_nothing_beside_the_pixels_of_a_png_costs_them(folder: Path, name: str, behind: bool) -> None:
    from sdedit_cli.pictures.carriers import find

    texts = BROKEN[name] + chunk(b"tEXt", TEXT)
    data = png(PIXELS, 8, 2, *([] if behind else [texts]), after=texts if behind else b"")
    (folder / "a.png").write_bytes(data)
    assert (levels(folder / "a.png") == [0x60, 0x80, 0xA0]).all()
    assert find("a.png").layer.values["steps"] == 12


def exif(*entries: tuple[int, int, int, bytes], more: bytes = b"") -> bytes:
    table = b"".join(struct.pack(">HHI", tag, kind, count) + value for tag, kind, count, value in entries)
    return b"MM\0*\0\0\0\x08" + struct.pack(">H", len(entries)) + table + bytes(4) + more


TURNED = (0x112, 3, 1, b"\0\6\0\0")


@pytest.mark.parametrize(
    "block",
    [
        exif(TURNED, (0x11A, 10, 1, struct.pack(">I", 38)), more=struct.pack(">ii", -1, 0)),
        exif(TURNED, (0x11A, 5, 1, struct.pack(">I", 38)), more=struct.pack(">II", 1, 0)),
        exif(TURNED, (0x8769, 4, 1, struct.pack(">I", 60_000))),
        exif(TURNED, (0x10F, 2, 60_000, struct.pack(">I", 38))),
    ],
)
@pytest.mark.parametrize("format", ["jpeg", "webp", "png"])
def test_a_picture_is_turned_by_exif_that_is_broken_elsewhere(folder: Path, format: str, block: bytes) -> None:
    image = Image.new("RGB", (64, 32), (120, 120, 120))
    image.save(folder / f"a.{format}", exif=b"Exif\0\0" + block)
    assert read(folder / f"a.{format}").rgb.size == (32, 64)


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_exif_that_is_none_is_said(folder: Path, format: str) -> None:
    Image.new("RGB", (64, 32), (120, 120, 120)).save(folder / f"a.{format}", exif=b"Exif\0\0garbage")
    got = read(folder / f"a.{format}")
    assert got.rgb.size == (64, 32)
    assert any("EXIF" in note or "beside" in note for note in got.notes)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
        (b"\xc5\xd0\xd3\xc6" + bytes(60), "PostScript"),
        (b"\0\0\0\x18ftypmif1" + bytes(60), "HEIF"),
        (b"\0\0\0\x18ftypavif" + bytes(60), "AVIF"),
        (b"\xff\x0a" + bytes(60), "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(60), "JPEG XL"),
    ],
)
def test_formats_that_are_not_read_are_named(folder: Path, data: bytes, words: str) -> None:
    (folder / "a.png").write_bytes(data)
    with pytest.raises(PictureError, match=f"a.png: is .*{words}"):
        read(folder / "a.png")


def sprite(folder: Path) -> Path:
    """A dark disc with a soft edge on nothing, and black under it as drawing programs leave it."""
    y, x = np.mgrid[0:64, 0:64]
    alpha = np.clip(20.5 - np.hypot(x - 32, y - 32), 0, 1) * 255
    pixels = np.where(alpha[..., None] > 0, np.array([90, 40, 30, 0]), 0)
    pixels[..., 3] = alpha
    Image.fromarray(pixels.astype(np.uint8)).save(folder / "sprite.png")
    return folder / "sprite.png"


def test_the_model_sees_a_sprites_own_colours_and_no_ground(folder: Path) -> None:
    got = read(sprite(folder))
    assert np.abs(np.asarray(got.rgb).astype(int) - [90, 40, 30]).max() <= 3
    # On any ground the picture looks as it did: there is no fringe.
    for ground in ((0, 0, 0), (255, 255, 255)):
        there = Image.new("RGB", (64, 64), ground)
        assert got.alpha is not None
        mine = Image.composite(got.rgb, there, got.alpha)
        with Image.open(folder / "sprite.png") as original:
            theirs = Image.composite(original.convert("RGB"), there, original.getchannel("A"))
        assert np.abs(np.asarray(mine).astype(int) - np.asarray(theirs)).max() <= 2


def test_spread_colours_are_those_nearby(folder: Path) -> None:
    image = Image.new("RGBA", (64, 40), (0, 255, 0, 0))
    image.paste((200, 0, 0, 255), (0, 0, 4, 40))
    image.paste((0, 0, 200, 255), (60, 0, 64, 40))
    image.save(folder / "a.png")
    rgb = np.asarray(read(folder / "a.png").rgb).astype(int)
    assert rgb[..., 1].max() <= 1  # the hidden green is nowhere
    assert rgb[20, 8, 0] > 150 > 50 > rgb[20, 8, 2]
    assert rgb[20, 55, 2] > 150 > 50 > rgb[20, 55, 0]


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1), (3, 3)])
def test_a_picture_that_shows_nothing_is_white_to_the_model(folder: Path, size: tuple[int, int]) -> None:
    Image.new("RGBA", size, (9, 9, 9, 0)).save(folder / "a.png")
    assert (np.asarray(read(folder / "a.png").rgb) == 255).all()


def test_a_background_is_what_transparent_pixels_show(folder: Path) -> None:
    got = read_picture(str(sprite(folder)), LIMIT, (0, 200, 0))
    with Image.open(folder / "sprite.png") as image:
        expected = Image.composite(image.convert("RGB"), Image.new("RGB", (64, 64), (0, 200, 0)), image.getchannel("A"))
    assert np.array_equal(np.asarray(got.rgb), np.asarray(expected))
    with Image.open(io.BytesIO(encode(got.rgb, got.alpha, None, "jpeg", ground=got.ground))) as out:
        assert np.abs(np.asarray(out)[0, 0].astype(int) - [0, 200, 0]).max() <= 3
