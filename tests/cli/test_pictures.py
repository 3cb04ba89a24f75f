"""Every kind of picture goes in, and comes out with its size, transparency and colours."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from helpers.cli import bomb, photo
from PIL import Image, ImageCms, ImageOps

from sdedit_cli.errors import OutputError, PictureError, UsageError
from sdedit_cli.pictures.codec import pixel_limit, read_picture
from sdedit_cli.pictures.encode import encode

LIMIT = 100.0
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "I;16", "F", "YCbCr", "LAB"])
def test_any_mode_becomes_rgb_of_the_same_picture(folder: Path, mode: str) -> None:
    path = folder / ("a.tiff" if mode in ("CMYK", "F", "YCbCr", "LAB", "I", "I;16") else "a.png")
    base = Image.open(photo(folder / "base.png"))
    if mode in ("I", "I;16"):
        wide = np.asarray(base.convert("L")).astype(np.uint16) * 257
        image = Image.fromarray(wide if mode == "I;16" else wide.astype(np.int32))
    elif mode == "F":
        image = Image.fromarray(np.asarray(base.convert("L")).astype(np.float32) / 255)
    elif mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(base, *profiles, outputMode="LAB")
        assert image is not None
    else:
        image = base.convert(mode)
    image.save(path)
    picture = read_picture(str(path), LIMIT)
    assert picture.rgb.mode == "RGB"
    assert picture.rgb.size == base.size
    gray = mode in ("1", "L", "LA", "I", "I;16", "F")
    expected = base.convert("L").convert("RGB") if gray else base
    # Dithering moves pixels and not their mean; Lab of 8 bits clips vivid colours.
    tolerance = {"1": 130, "P": 25, "LAB": 4, "YCbCr": 2}.get(mode, 1)
    assert np.abs(pixels(picture.rgb) - pixels(expected)).mean() <= tolerance
    assert np.abs(pixels(picture.rgb).mean((0, 1)) - pixels(expected).mean((0, 1))).max() <= 5


def test_sixteen_bit_gray_png_keeps_its_tones(folder: Path) -> None:
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)[None].repeat(8, 0)
    Image.fromarray(ramp).save(folder / "a.png")
    got = pixels(read_picture("a.png", LIMIT).rgb)[0, :, 0]
    assert np.abs(got - ramp[0] / 257).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(folder: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    base = Image.open(photo(folder / "base.png", (40, 24)))
    base.save(folder / "a.png", exif=exif.tobytes())
    expected = ImageOps.exif_transpose(Image.open(folder / "a.png"))
    got = read_picture("a.png", LIMIT).rgb
    assert got.size == ((40, 24) if orientation < 5 else (24, 40))
    assert np.array_equal(pixels(got), pixels(expected))


def test_alpha_turns_with_the_picture(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(folder / "a.png", (40, 24), "RGBA", exif=exif.tobytes())
    picture = read_picture("a.png", LIMIT)
    assert picture.alpha is not None
    assert picture.alpha.size == picture.rgb.size == (24, 40)


@pytest.mark.parametrize("kind", ["RGBA", "LA", "palette", "colour key"])
def test_transparency_of_every_kind_is_kept(folder: Path, kind: str) -> None:
    base = Image.new("RGB", (16, 8), (200, 10, 10))
    alpha = Image.new("L", base.size, 255)
    alpha.paste(0, (0, 0, 8, 8))
    if kind == "palette":
        image = Image.new("P", base.size, 0)
        image.putpalette([200, 10, 10, 1, 2, 3])
        image.paste(1, (0, 0, 8, 8))
        image.save(folder / "a.png", transparency=1)
    elif kind == "colour key":
        base.paste((1, 2, 3), (0, 0, 8, 8))
        base.save(folder / "a.png", transparency=(1, 2, 3))
    else:
        image = base.convert(kind)
        image.putalpha(alpha)
        image.save(folder / "a.png")
    picture = read_picture("a.png", LIMIT)
    assert picture.alpha is not None
    assert np.array_equal(pixels(picture.alpha), pixels(alpha))
    # What is under full transparency is nobody's business: the model sees the colour that shows beside it.
    shows = pixels(picture.rgb)[0, -1]
    assert np.abs(pixels(picture.rgb) - shows).max() <= 1


@pytest.mark.parametrize("format", ["png", "webp"])
def test_alpha_and_profile_go_back_out(folder: Path, format: str) -> None:
    photo(folder / "a.png", mode="RGBA", icc_profile=SRGB)
    picture = read_picture("a.png", LIMIT)
    alpha = picture.rgb.getchannel("R")
    with Image.open(io.BytesIO(encode(picture.rgb, alpha, picture.icc, format))) as out:
        assert np.array_equal(pixels(out.getchannel("A")), pixels(alpha))
        assert out.mode == "RGBA"
        assert out.info["icc_profile"] == SRGB


def test_a_jpeg_shows_transparency_on_white() -> None:
    image = Image.new("RGB", (16, 16), (0, 0, 0))
    with Image.open(io.BytesIO(encode(image, Image.new("L", (16, 16), 0), SRGB, "jpeg"))) as out:
        assert np.abs(pixels(out) - 255).max() <= 2
        assert out.info["icc_profile"] == SRGB


def test_a_profile_that_does_not_fit_rgb_is_used_up_or_left_out(folder: Path) -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    photo(folder / "a.tiff", mode="CMYK", icc_profile=lab)
    picture = read_picture("a.tiff", LIMIT)
    assert picture.icc is None
    assert "colour profile" in picture.notes[0]


def test_an_animation_gives_its_first_frame_and_says_so(folder: Path) -> None:
    frames = [Image.new("RGB", (8, 8), (i * 80, 0, 0)) for i in range(3)]
    frames[0].save(folder / "a.gif", save_all=True, append_images=frames[1:])
    picture = read_picture("a.gif", LIMIT)
    assert picture.rgb.getpixel((0, 0)) == (0, 0, 0)
    assert "3 frames" in picture.notes[0]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty (0 bytes)"),
        (b"hello, this is no picture\n", "is a text file"),
        ("grüße\n".encode(), "is a text file"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is an SVG drawing"),
        (b"%PDF-1.7 ...", "is a PDF document"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "is a HEIC (HEIF) picture"),
        (b"\0\0\0\x20ftypisom\0\0\0\0", "is a video"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86", "is a video"),
        (b"\0\0\0\x18ftypcrx \0\0\0\0", "is a raw picture of a camera"),
        (b"\xff\x0a\xfa\x7f\x01", "is a JPEG XL picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "is a PostScript (EPS) drawing"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "is a Git LFS pointer"),
        (b"<!DOCTYPE html><html>not found</html>", "is a web page"),
        (b"\n<HTML><body>", "is a web page"),
        (b"PF\n2 2\n-1.0\n" + bytes(48), "is a PFM picture"),
        (b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 3\nMAXVAL 255\nENDHDR\n\0\0\0", "is a PAM picture"),
        (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 1 +X 1\n\x80\x80\x80\x80", "is a Radiance HDR picture"),
        (b"v/1\x01\x02\0\0\0channels\0", "is an OpenEXR picture"),
        (b"gimp xcf v011\0\0\0\0\x08", "is a GIMP (XCF) drawing"),
        (b"8BPS\0\2\0\0\0\0\0\0\0\3", "is a large Photoshop (PSB) drawing"),
        (b"8BPS\0\1\0\0\0\0\0\0\0\3\0\0\0\4\0\0\0\4\0\x10\0\3", "is a Photoshop (PSD) drawing of 16 bits"),
        (b"8BPS\0\1\0\0\0\0\0\0\0\3\0\0\0\4\0\0\0\4\0\x08\0\3", "may be damaged"),
        (bytes(range(256)), "no known picture format"),
    ],
)
def test_what_is_no_picture_is_named(folder: Path, data: bytes, words: str) -> None:
    (folder / "a.png").write_bytes(data)
    with pytest.raises(PictureError) as caught:
        read_picture("a.png", LIMIT)
    assert "a.png" in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.gif", "a.tiff", "a.bmp"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_truncated_picture_is_refused(folder: Path, name: str, share: float) -> None:
    whole = photo(folder / name, (200, 150)).read_bytes()
    (folder / name).write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(PictureError, match=r"cut short|damaged|cannot be read"):
        read_picture(name, LIMIT)


def test_a_decompression_bomb_is_refused_before_it_unfolds(folder: Path) -> None:
    (folder / "a.png").write_bytes(bomb())
    with pytest.raises(PictureError, match="20000 x 20000 pixels \\(400 megapixels\\), over the limit of 100"):
        read_picture("a.png", LIMIT)


def test_a_size_over_a_small_limit_is_not_rounded_away(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo(folder / "a.png", (64, 64))
    with pytest.raises(PictureError, match=r"\(0.0041 megapixels\), over the limit of 0.001 megapixels"):
        read_picture("a.png", 0.001)
    monkeypatch.setenv("SDEDIT_MAX_MEGABYTES", "0.0001")
    with pytest.raises(PictureError, match=r"has 0.00[0-9]+ MB, over the limit of 0.0001 MB"):
        read_picture("a.png", LIMIT)


@pytest.mark.parametrize("text", ["0", "-1", "many", "nan"])
def test_a_bad_limit_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="SDEDIT_MAX_MEGAPIXELS"):
        pixel_limit({"SDEDIT_MAX_MEGAPIXELS": text})


def test_the_limit_can_be_set() -> None:
    assert pixel_limit({}) == 100
    assert pixel_limit({"SDEDIT_MAX_MEGAPIXELS": "2.5"}) == 2.5


def test_a_picture_too_wide_for_its_format_is_refused() -> None:
    with pytest.raises(OutputError, match="use --format png"):
        encode(Image.new("RGB", (16_400, 1)), None, None, "webp")
