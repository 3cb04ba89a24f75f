"""The text of web UIs, as it is found in pictures of all kinds."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sdedit_cli.errors import PictureError
from sdedit_cli.pictures.carriers import find
from sdedit_cli.pictures.exif import comment_text
from sdedit_cli.pictures.parameters import pairs_of, parse_parameters
from sdedit_cli.pictures.record import Ingredient

FOREIGN = """\
masterpiece, a (cat:1.2), <lora:x:0.8>
on two lines
Negative prompt: lowres, bad anatomy
also on two
Steps: 28, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 2741, \
Size: 512x768, Model hash: 6ce0161689, Model: v1-5-pruned-emaonly, \
Denoising strength: 0.55, Clip skip: 2, Lora hashes: "x: 0a1b, y: 2c3d", Version: v1.10.1"""


def test_a_web_uis_text_is_read() -> None:
    found = parse_parameters(FOREIGN, "p.png")
    assert found is not None
    assert found.layer.values == {
        "prompt": "masterpiece, a (cat:1.2), <lora:x:0.8>\non two lines",
        "negative_prompt": "lowres, bad anatomy\nalso on two",
        "steps": 28,
        "sampler": "DPM++ 2M",
        "schedule": "karras",
        "cfg_scale": 6.5,
        "seed": 2741,
        "strength": 0.55,
        "clip_skip": 1,
    }
    assert found.ingredients == (
        Ingredient("model", "v1-5-pruned-emaonly", "6ce0161689"),
        Ingredient("vae"),
        Ingredient("lora", "x", "0a1b"),
        Ingredient("lora", "y", "2c3d"),
    )
    assert not found.exact
    assert found.left_out([]) == ("lora: x", "lora: y")


@pytest.mark.parametrize(
    ("line", "values", "ignored"),
    [
        (
            "Steps: 20, Sampler: Euler, Schedule type: Automatic, Seed: 1",
            {"steps": 20, "sampler": "Euler", "seed": 1},
            (),
        ),
        ("Steps: 20, Sampler: Euler, Seed: -1", {"steps": 20, "sampler": "Euler"}, ("Seed: -1",)),
        (
            "Steps: 20, Schedule type: SGM Uniform, Seed: 1, Clip skip: 1",
            {"steps": 20, "seed": 1},
            ("Schedule type: SGM Uniform",),
        ),
        ("Steps: 20.0, Sampler: Default, Seed: 1, Clip skip: 2.0", {"steps": 20, "seed": 1, "clip_skip": 1}, ()),
        ("Steps: 20, Sampler: Euler, Clip skip: 1.0", {"steps": 20, "sampler": "Euler"}, ()),
        ("Steps: 20, Sampler: Euler, Clip skip: 1.5", {"steps": 20, "sampler": "Euler"}, ("Clip skip: 1.5",)),
    ],
)
def test_what_a_web_ui_means_by_default_is_left_to_the_default(
    line: str, values: dict[str, object], ignored: tuple[str, ...]
) -> None:
    found = parse_parameters(line, "x")
    assert found is not None
    assert found.layer.values == values
    assert found.ignored == ignored


def test_what_shaped_the_picture_there_and_is_not_taken_is_told() -> None:
    told = (
        *("Variation seed: 77", "Variation seed strength: 0.3", "Seed resize from: 512x512", "Tiling: True"),
        *("Face restoration: CodeFormer", "Hires upscale: 2", "Refiner: x, y", "Eta DDIM: 0.5", "Sigma churn: 1"),
        *("Mask blur: 4", "Inpaint area: Only masked", "FreeU B1: 1.2", 'ControlNet 0: "Module: canny, Weight: 1"'),
    )
    idle = 'Size: 8x8, Model hash: 6ce0161689, Model: ponds, VAE hash: ab, Lora hashes: "x: 0a1b", Hashes: {}, RNG: CPU'
    lost = ", ".join(told).replace("Refiner: x, y", 'Refiner: "x, y"')
    text = f"a\nSteps: 20, Seed: 1, {idle}, {lost}, Restore faces: False, Version: v1.10.1, App: SD.Next"
    found = parse_parameters(text, "x")
    assert found is not None
    assert found.ignored == tuple(one.replace('"', "") for one in told)


def test_of_very_many_pairs_some_are_told_and_the_rest_is_counted() -> None:
    found = parse_parameters("a\nSteps: 20, Seed: 1, " + ", ".join(f"K{n}: 1" for n in range(5_000)), "x")
    assert found is not None
    assert len(found.ignored) < 50
    assert found.ignored[-1].endswith(" more")


@pytest.mark.parametrize("text", ["", "a caption of a cat", "Camera: X, Lens: Y, ISO: 100, Steps", "Steps: 3"])
def test_other_texts_are_not_taken_for_settings(text: str) -> None:
    assert parse_parameters(text, "x") is None


LINE = "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5"
READ = {"prompt": "a pond", "negative_prompt": "fog", "steps": 20, "sampler": "Euler a", "cfg_scale": 7.0, "seed": 5}


@pytest.mark.parametrize(
    "text",
    [
        f"a pond\nNegative prompt: fog\n{LINE}",
        f"a pond\rNegative prompt: fog\r{LINE}",
        f"a pond\r\nNegative prompt: fog\r\n{LINE}\r\n",
        f"a pond\nNegative prompt: fog\n{LINE}\nTemplate: a {{pond|lake}}\nNegative Template: fog, Steps: 3, Seed: 9",
        f'a pond\nNegative prompt: fog\n{LINE}, Hashes: {{"Steps: 99, Seed": "1"}}',
        f"a pond\nNegative prompt: fog\n{LINE}, Steps: 99, Seed: 1",
        f'a pond\nNegative prompt: fog\n{LINE}, Notes: "two\nlines, Steps: 9", Version: x\nSeed: 7',
        f"a pond\nNegative prompt: fog\nParser: x, {LINE}",
        f"a pond Negative prompt: fog {LINE}",
        f"a pond, Negative prompt: fog, {LINE}",
        "a pond\nNegative prompt: fog\n" + LINE.replace(", ", "\n"),
        f"a pond\nNegative prompt: fog\n{LINE}\n\n{{'json': 'Steps: 3, Sampler: DDIM, Seed: 4'}}",
    ],
)
def test_settings_are_found_wherever_they_stand(text: str) -> None:
    found = parse_parameters(text, "x")
    assert found is not None
    assert found.layer.values == READ


SETTINGS = f"a pond\nNegative prompt: fog\n{LINE}"


@pytest.mark.parametrize(
    "raw",
    [
        b"UNICODE\0" + SETTINGS.encode("utf-16-be"),
        b"UNICODE\0" + SETTINGS.encode("utf-16-le"),
        b"UNICODE\0" + SETTINGS.encode("utf-16"),
        b"Unicode\0" + SETTINGS.encode("utf-16-le"),
        b"UNICODE\0" + SETTINGS.encode(),
        b"ASCII\0\0\0" + SETTINGS.encode(),
        b"ASCII\0\0\0" + SETTINGS.encode("utf-16-le"),
        bytes(8) + SETTINGS.encode(),
        bytes(8) + SETTINGS.encode("utf-16-be"),
        SETTINGS.encode(),
    ],
)
@pytest.mark.parametrize("main", [False, True], ids=["in the folder of EXIF", "in the main one"])
@pytest.mark.parametrize("format", ["jpeg", "webp", "png"])
def test_a_user_comment_is_read_whatever_its_code_and_place(
    tmp_path: Path, raw: bytes, main: bool, format: str
) -> None:
    exif = Image.Exif()
    (exif if main else exif.get_ifd(0x8769))[0x9286] = raw
    Image.new("RGB", (8, 8)).save(tmp_path / "x", format, exif=exif.tobytes())
    assert find(tmp_path / "x").layer.values == READ


@pytest.mark.parametrize("text", ["灯台の絵, Steps: 20", "ein Gruß, Steps: 2", "灯台の絵", "plain words"])
@pytest.mark.parametrize(("code", "encoding"), [(b"UNICODE\0", "utf-16-be"), (b"ASCII\0\0\0", "utf-8")])
def test_a_comment_of_any_script_is_read(text: str, code: bytes, encoding: str) -> None:
    assert comment_text(code + text.encode(encoding)) == text


def test_comments_and_packed_texts_are_read(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", comment=SETTINGS)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.gif", comment=SETTINGS.encode())
    info = PngInfo()
    info.add_itxt("parameters", SETTINGS, zip=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=info)
    for name in ("a.jpg", "a.gif", "a.png"):
        assert find(tmp_path / name).layer.values == READ


@pytest.mark.parametrize(
    ("line", "pairs"),
    [
        ('Steps: 1, A: "x, y", B/C-d: z', {"A": "x, y", "B/C-d": "z"}),
        ('Steps: 1, A: "x\\"y: 1, z", B: "open, C: 3', {"A": 'x"y: 1, z', "B": "open", "C": "3"}),
        ('Steps: 1, A: "x" y, B: :, -- C: 1', {"A": 'x" y', "B": ":", "C": "1"}),
        ("Steps: 1,::, !?A b: 2:3, : 4, B: 5", {"A b": "2:3", "B": "5"}),
        ("Steps:1,Größe:2,B:,", {"Größe": "2", "B": ""}),
    ],
)
def test_pairs_are_found_among_other_text(line: str, pairs: dict[str, str]) -> None:
    assert dict(pairs_of(line)) == {"Steps": "1", **pairs}


def steps_of(function: Callable[[], object]) -> int:
    """How many lines of Python of the package `function` runs through."""
    counted = 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal counted
        counted += event == "line"
        return trace if "sdedit_cli" in frame.f_code.co_filename else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return counted


@pytest.mark.parametrize(
    "piece",
    [
        *("x", "a/-", "a ", " ", "-", ":", "a:", "a:,", "a: b, ", '"', 'a:"', 'a:"b,', 'a:"\\",', 'a: "b" c, ', "\\"),
        *("Steps: 1\n", "Steps: 1, A: 2, ", 'A: "\n', "\r", "a: b\n", "Steps: "),
        *("\n", "Negative prompt:\n", "Lora hashes: a:b, ", 'Lora hashes: "a:b,a:b", '),
    ],
)
@pytest.mark.parametrize("tail", ["", ", Steps: 1, Seed: 2, Size: 3"])
def test_the_work_on_a_text_grows_with_its_length_and_no_faster(piece: str, tail: str) -> None:
    counts = [steps_of(lambda n=n: parse_parameters(piece * n + tail, "x")) for n in (200, 400, 800)]
    assert counts[2] - counts[1] <= 2 * (counts[1] - counts[0]) + 20
    # Work within one call of the interpreter is not counted: a quadratic one would take minutes here.
    with contextlib.suppress(PictureError):
        parse_parameters(piece * (200_000 // len(piece)) + tail, "x")
