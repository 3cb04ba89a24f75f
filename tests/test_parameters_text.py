"""The text for web UIs is read by others as it was meant: by a grammar of its own here, and by `sd-parsers`."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
from PIL import Image

from sdedit_cli.options import Edit
from sdedit_cli.pictures.carriers import PARAMETERS_KEY, carried, texts
from sdedit_cli.pictures.codec import open_picture
from sdedit_cli.pictures.record import Ingredient, Record

# The last line is pairs of a key and a value, which is bare up to a comma, or a JSON text.
PAIR = re.compile(r'([A-Za-z][\w /-]*): ("(?:[^"\\]|\\.)*"|[^,"\n]*)(?:, |$)')
PIECES = ("a pond", ", ", '"', "'", "\n", "🐸", "灯台", "(x:1.2)", "<b>", "\\", ":", "{}", "  ")


def record(draw: random.Random, length: int) -> Record:
    prompt, negative = ("w" + "".join(draw.choice(PIECES) for _ in range(length)) + "w" for _ in range(2))
    edit = Edit(
        prompt=prompt, negative_prompt=negative, seed=draw.randrange(2**64), strength=0.55, steps=30, clip_skip=1
    )
    names = ("plain", "a, b", 'with "quotes"', "c: d", "灯")
    made_of = (
        Ingredient("model", draw.choice(names), "ab" * 32),
        Ingredient("vae", draw.choice(names), "cd" * 32),
        Ingredient("lora", "one.v1", "ef" * 32, 0.5, payload="12" * 32),
        Ingredient("lora", "two", "34" * 32, 1.0),
        Ingredient("embedding", "word", "56" * 32),
    )
    return Record(edit.saved(), 64, 48, made_of, "78" * 32, "DPM++ 2M", "karras", "1.0")


def written(said: Record, format: str, path: Path) -> str:
    Image.new("RGB", (8, 8)).save(path, format, **carried(said, format).arguments)
    return texts(open_picture(path.read_bytes(), str(path), 1))[PARAMETERS_KEY]


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_a_grammar_of_its_own_reads_what_is_written(tmp_path: Path, format: str) -> None:
    compared = 0
    for number, length in enumerate((0, 1, 3, 8, 20, 20, 20, 2_500)):
        said = record(random.Random(number), length)
        prompts, _, line = written(said, format, tmp_path / "x").rpartition("\n")
        pairs = {key: json.loads(value) if value.startswith('"') else value for key, value in PAIR.findall(line)}
        assert PAIR.sub("", line) == ""
        assert prompts == f"{said.edit['prompt']}\nNegative prompt: {said.edit['negative_prompt']}"
        assert pairs == {
            "Steps": "30",
            "Sampler": "DPM++ 2M",
            "Schedule type": "Karras",
            "CFG scale": "7.5",
            "Seed": str(said.edit["seed"]),
            "Size": "64x48",
            "Model hash": "ab" * 5,
            "Model": said.ingredients[0].name,
            "VAE hash": "cd" * 5,
            "VAE": said.ingredients[1].name,
            "Denoising strength": "0.55",
            "Clip skip": "2",
            "Init image hash": "78" * 5,
            "Lora hashes": f"one.v1: {'12' * 6}, two: {'34' * 6}",
            "TI hashes": f"word: {'56' * 6}",
            "Version": "sdedit 1.0",
        }
        compared += 1
    assert compared == 8


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_sd_parsers_reads_what_is_written(tmp_path: Path, format: str) -> None:
    """It takes values at commas, whatever the quotes; the pairs that it looks for have none."""
    parsers = pytest.importorskip("sd_parsers")
    said = record(random.Random(4), 20)
    path = tmp_path / f"x.{format}"
    written(said, format, path)
    (sampler,) = parsers.ParserManager().parse(str(path)).samplers
    assert sampler.name == "DPM++ 2M"
    wanted = {"cfg_scale": "7.5", "seed": str(said.edit["seed"]), "steps": "30", "scheduler": "Karras"}
    assert sampler.parameters == wanted
    assert [one.value for one in sampler.prompts] == [said.edit["prompt"]]
    assert [one.value for one in sampler.negative_prompts] == [said.edit["negative_prompt"]]
    assert sampler.model.hash == "ab" * 5
