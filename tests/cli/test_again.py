"""`info --as`: what it prints of a picture means the same edit when it is read back."""

from __future__ import annotations

import random
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import QUICK, photo, sdedit
from PIL import Image

from sdedit_cli.cli.again import as_command, as_preset, asked_again
from sdedit_cli.cli.main import run
from sdedit_cli.cli.run import command
from sdedit_cli.options import Edit, edit_from, fields
from sdedit_cli.pictures.carriers import carried, find
from sdedit_cli.pictures.record import Ingredient, Record
from sdedit_cli.presets import load_preset

TEXTS = (
    *(
        "",
        "a pond",
        "-p",
        "--help",
        "'",
        '"',
        "a 'b' \"c\"",
        "$HOME `ls` $(ls) !! \\ \\n",
        "two\nlines\r\n\ttabs",
        "# [x]",
    ),
    *(
        "灯台 🐸 \u200d\u2028 \x7f \x1b[0m",
        "%s {stem}",
        "a, b: c",
        "x" * 10_000,
        "é\u0301'\"\n" * 2_000,
        "~",
        "*",
        "a=b",
    ),
)
CASES = 120


def drawn(draw: random.Random) -> Edit:
    values: dict[str, Any] = {
        "prompt": draw.choice(TEXTS),
        "negative_prompt": draw.choice(TEXTS),
        "strength": draw.choice((0.4, 2 / 3, 0.75, 1.0, 0.7000000000000001)),
        "cfg_scale": draw.choice((0.0, 7.5, 1e-5, 1000.0, 4.1)),
        "seed": draw.choice((0, 1, 2**63, 2**64 - 1)),
        "sampler": draw.choice((None, "Euler a", "DPM++ 2M Karras")),
        "clip_skip": draw.choice((None, 0, 2)),
        "weighting": draw.random() < 0.5,
        "freeu": draw.choice((None, (0.9, 0.2, 1.3, 1 / 3))),
        "background": draw.choice((None, "#20242c")),
        "dtype": draw.choice(("fp32", "bf16")),
        "threads": draw.choice((None, 3)),
        **draw.choice(({"steps": 30}, {"timesteps": (900, 500, 2)}, {"sigmas": (9.5, 1 / 3, 0.1)})),
    }
    return Edit(**values)


def of_command(line: str) -> Edit:
    words = shlex.split(line)
    assert words[:3] == ["sdedit", "run", "INPUT"]
    given = command.make_context("run", words[2:]).params
    return Edit(**{f.name: given[f.name] for f in fields() if given[f.name] not in (None, ())})


def test_both_ways_mean_the_same_edit(folder: Path) -> None:
    """In each format of pictures, through what the picture holds."""
    compared = 0
    for number in range(CASES):
        draw = random.Random(number)
        edit = drawn(draw)
        format = ("png", "jpeg", "webp")[number % 3]
        if format == "jpeg" and len(edit.prompt) + len(edit.negative_prompt) > 10_000:
            continue  # beyond what it holds, which the run says
        record = Record(edit.saved(), 8, 8, (Ingredient("model", "built-in"),))
        Image.new("RGB", (8, 8)).save(f"x.{format}", format, **carried(record, format).arguments)
        layer = asked_again(find(f"x.{format}"))
        assert of_command(as_command(layer)) == edit
        (folder / "x.toml").write_bytes(as_preset(layer).encode())
        assert edit_from([load_preset("x.toml", []).layer]) == edit
        compared += 1
    assert compared > CASES * 0.8


@pytest.mark.skipif(sys.platform == "win32", reason="quoted for the shells of Unix")
def test_a_shell_takes_the_command_apart_as_it_was_meant() -> None:
    edit = Edit(prompt="".join(TEXTS[:12]), negative_prompt=TEXTS[10], seed=3)
    record = Record(edit.saved(), 8, 8)
    from sdedit_cli.pictures.record import block, parse_block

    line = as_command(asked_again(parse_block(block(record), "x.png")))
    split = subprocess.run(["sh", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True)
    assert split.stdout.decode().split("\0")[:-1] == shlex.split(line)


def test_a_picture_is_made_again_by_what_info_prints(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    photo(folder / "INPUT", format="png")
    looks = ("--lora", "blueprint:0.5", "--embedding", "emoji-gold")
    assert run(["run", "INPUT", "-p", "an 'emoji-gold' pond", *looks, *QUICK, "-o", "x.png"]) == 0
    capfd.readouterr()
    for way in ("command", "preset"):
        assert run(["info", "x.png", "--as", way]) == 0
        said = capfd.readouterr()
        assert said.err == ""
        (folder / "x.toml").write_text(said.out)
        words = shlex.split(said.out)[1:] if way == "command" else ["run", "INPUT", "--preset", "x.toml"]
        assert run([*words, "--device", "cpu", "-o", f"{way}.png"]) == 0
        assert Path(f"{way}.png").read_bytes() == Path("x.png").read_bytes()
        capfd.readouterr()


def test_what_is_for_people_to_add_is_said_and_what_cannot_be_is_refused(folder: Path) -> None:
    made_of = (Ingredient("model", "mine"), Ingredient("vae", "theirs", "ab" * 32), Ingredient("ip-image", "look"))
    record = Record({**Edit(prompt="a\0b", seed=1).saved(), "count": 3}, 8, 8, made_of)
    Image.new("RGB", (8, 8)).save("x.png", **carried(record, "png").arguments)
    done = sdedit("info", "x.png", "--as", "preset", cwd=folder)
    assert done.returncode == 0
    assert 'model = "mine"' in done.stdout.decode()
    assert 'prompt = "a\\u0000b"' in done.stdout.decode()
    for words in ("the vae 'theirs' with --vae", "the ip-image 'look' with --ip-image", "left out is count: 3"):
        assert words in done.stderr.decode()
    refused = sdedit("info", "x.png", "--as", "command", cwd=folder)
    assert refused.returncode == 3
    assert "try --as preset" in refused.stderr.decode()
    photo(folder / "plain.png")
    assert sdedit("info", "plain.png", "--as", "command", cwd=folder).returncode == 3
    assert sdedit("info", "--as", "command", cwd=folder).returncode == 2
    assert sdedit("info", "x.png", "--as", "command", "--json", cwd=folder).returncode == 2


def test_the_mask_is_part_of_what_makes_a_picture_again(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    photo(folder / "in.png", (40, 30), "RGBA")
    photo(folder / "m.png", (40, 30), "L")
    for mask, said in (("alpha", ""), ("m.png", "give the mask 'm' with --mask")):
        out = f"{Path(mask).stem}.made.png"
        assert run(["run", "in.png", "-p", "a pond", "--mask", mask, *QUICK, "-o", out]) == 0
        capfd.readouterr()
        assert run(["info", out, "--as", "command"]) == 0
        told = capfd.readouterr()
        words = shlex.split(told.out)
        assert said in told.err
        assert words[words.index("--mask") + 1] == Path(mask).stem
        again = [{"INPUT": "in.png", "m": "m.png"}.get(word, word) for word in words[1:]]
        assert run([*again, "--device", "cpu", "-o", f"again.{out}"]) == 0
        assert Path(f"again.{out}").read_bytes() == Path(out).read_bytes()
