"""Metadata of strangers: 50,000 pictures with something changed beside their pixels, through `info` and `--like`.

Whatever it is, the end is a picture that is told or an error in words, soon and within bounded memory.
"""

from __future__ import annotations

import io
import json
import random
import zlib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import photo, sdedit
from helpers.mutations import as_json, changed, changed_tree
from helpers.taken_apart import Pieces, pieces_of, put_together
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from sdedit_cli.cli.main import run
from sdedit_cli.options import Edit, fields
from sdedit_cli.pictures.carriers import carried
from sdedit_cli.pictures.record import Ingredient, Record

pytest.importorskip("resource", reason="bounds memory and time as Unix does")

CASES, PARTS = 50_000, 20
MEMORY = 1_000_000_000
FORMATS = ("png", "jpeg", "webp")
BESIDE = (b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"iCCP", b"\xff\xe1", b"\xff\xe2", b"\xff\xfe", b"EXIF", b"XMP ", b"ICCP")
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)
NAMES = (*(field.name for field in fields()), *(field.key for field in fields()), "schema", "kind", "sha256", "name")
# What names a sampler is checked against the model, which takes longer than all else: few of them do.
CHOSEN = 0.05
FOREIGN = (
    "a pond, (frogs:1.2)\nNegative prompt: mist\nSteps: 20, {}CFG scale: 7, Seed: 42, Size: 64x48, Model: built-in, "
    'Model hash: 0123456789, VAE: "a, b", Denoising strength: 0.6, Eta: 0.5, Lora hashes: "one: 0123456789, two: abc", '
    "Version: v1.10.0"
)
CHOICE = "Sampler: DPM++ 2M Karras, Schedule type: Karras, Clip skip: 2, "


def record(chosen: bool) -> Record:
    named: Any = {"sampler": "Euler", "sigmas": (9.5, 3.0, 1.0)} if chosen else {}
    edit = Edit(prompt="a pond", negative_prompt="mist", seed=7, **named)
    made_of = (Ingredient("model", "built-in", "ab" * 32), Ingredient("lora", "x", "cd" * 32, 0.5))
    return Record(edit.saved(), 64, 48, made_of, "ef" * 32, "Euler", "", "0.1.0")


@cache
def sound(format: str, foreign: bool, chosen: bool) -> tuple[bytes, Pieces]:
    """A picture with every kind of metadata beside it, and its pieces."""
    text = FOREIGN.format(CHOICE if chosen else "")
    options = dict(carried(record(chosen), format).arguments)
    if foreign and format == "png":
        info = PngInfo()
        info.add_text("parameters", text, zip=True)
        info.add_itxt("workflow", '{"nodes": [1, {"a": 2}]}')
        options["pnginfo"] = info
    elif foreign:
        exif = Image.Exif()
        exif[0x010E] = text
        exif[0x0112] = 6
        exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + text.encode("utf-16-be")
        options["exif"] = exif.tobytes()
    if format == "png":
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = 3
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", XMP.decode())
    else:
        options["xmp"] = XMP
    if format == "jpeg":
        options["comment"] = text[:200]
    options["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    held = io.BytesIO()
    Image.radial_gradient("L").resize((64, 48)).convert("RGB").save(held, format, **options)
    return held.getvalue(), pieces_of(held.getvalue())


def text_changed(body: bytes, draw: random.Random) -> bytes:
    """A PNG's text with what it says changed, not how it is kept."""
    key, _, text = body.partition(b"\0")
    if key == b"sdedit" and draw.random() < 0.7:
        tree = json.loads(text)
        for _ in range(draw.choice((1, 1, 2, 3))):
            tree = changed_tree(tree, draw, NAMES)
        return key + b"\0" + as_json(tree)
    if text[:1] == b"\0" and key == b"parameters":  # compressed
        return key + b"\0\0" + zlib.compress(changed(zlib.decompress(text[1:]), draw), 1)
    return key + b"\0" + changed(text, draw)


def mutated(number: int) -> bytes:
    draw = random.Random(number)
    format = draw.choice(FORMATS)
    data, pieces = sound(format, draw.random() < 0.5, draw.random() < CHOSEN)
    pieces = list(pieces)
    beside = [at for at, (kind, _) in enumerate(pieces) if kind in BESIDE]
    at = draw.choice(beside)
    kind, body = pieces[at]
    match draw.randrange(10):
        case 0:  # another kind of piece
            pieces[at] = draw.choice([one for one in BESIDE if len(one) == len(kind)]), body
        case 1:  # twice, elsewhere, or in another order
            pieces.insert(draw.randint(0, len(pieces)), (kind, changed(body, draw)))
        case 2:  # the whole file, behind what tells its format
            return data[:12] + changed(data[12:], draw)
        case 3 | 4 | 5 | 6 if kind in (b"tEXt", b"zTXt"):
            pieces[at] = kind, text_changed(body, draw)
        case 3 if kind == b"iCCP":
            pieces[at] = kind, b"icc\0\0" + zlib.compress(changed(zlib.decompress(body.split(b"\0\0", 1)[1]), draw), 1)
        case _:
            pieces[at] = kind, changed(body, draw)
    return put_together(pieces, data)


def ended(words: list[str], capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The code and the output of a command, which must have said what is wrong, if anything is, in plain words."""
    from helpers.bounded import in_memory, in_time

    with in_memory(MEMORY), in_time():
        code = run(words)
    out, err = capfd.readouterr()
    assert code in (0, 2, 3), err
    assert (code == 0) or err.startswith("sdedit: ")
    assert all(mark not in err for mark in ("Traceback", "internal error", "memory"))
    assert all(c.isprintable() or c == "\n" for c in out + err)
    return code, out


def like(path: Path) -> list[str]:
    return ["run", "a.png", "--like", str(path), "--dry-run", "--json", "-o", "out.png"]


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_metadata_of_strangers_is_told_or_refused(folder: Path, capfd: pytest.CaptureFixture[str], part: int) -> None:
    photo(folder / "a.png")
    free = {field.name for field in fields() if field.option.in_picture}
    ends: Counter[str] = Counter()
    for number in range(part, CASES, PARTS):
        path = folder / "m.png"
        path.write_bytes(mutated(number))
        try:
            code, out = ended(["info", "--no-hash", "--json", "m.png"], capfd)
            facts = json.loads(out)
            ends["told" if "settings" in facts else "no settings" if "kind" in facts else "refused"] += 1
            assert (code == 0) == ("error" not in facts)
            code, out = ended(like(path), capfd)
            events = [json.loads(line) for line in out.splitlines()]
            assert events[-1]["event"] == "end"
            assert events[-1]["exit_code"] == code
            ends["replayed" if code == 0 else "not replayed"] += 1
            if code == 0:  # nothing but what shapes a picture was taken over
                asked = next(event["edit"] for event in events if event["event"] == "start")
                plain = Edit()
                strange = {name for name, value in asked.items() if name not in free and value != getattr(plain, name)}
                assert not strange - {"model"}
        except BaseException:
            print(f"case {number}")
            raise
    assert ends["told"] + ends["no settings"] + ends["refused"] == CASES // PARTS
    assert ends["replayed"] + ends["not replayed"] == CASES // PARTS
    assert min(ends["told"], ends["no settings"], ends["replayed"], ends["not replayed"]) > CASES // PARTS // 20, ends
    assert sorted(path.name for path in folder.iterdir()) == ["a.png", "m.png"]


@pytest.mark.slow
def test_processes_of_their_own_end_as_in_this_one(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    photo(folder / "a.png")
    codes: Counter[int] = Counter()
    for number in range(0, CASES, CASES // 60):
        (folder / "m.png").write_bytes(mutated(number))
        for words in (["info", "--no-hash", "--json", "m.png"], like(folder / "m.png")):
            done = sdedit(*words, cwd=folder)
            assert (done.returncode, done.stdout.decode()) == ended(words, capfd)
            codes[done.returncode] += 1
    assert codes[0] > 20
    assert codes[3] > 5


def test_a_few_of_them(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What every run of the tests sees of the above."""
    photo(folder / "a.png")
    codes: Counter[int] = Counter()
    for number in range(300):
        (folder / "m.png").write_bytes(mutated(number))
        for words in (["info", "--no-hash", "m.png"], like(folder / "m.png")):
            codes[ended(words, capfd)[0]] += 1
    assert codes[0] > 100
    assert codes[3] > 20
