"""Encoded prompts kept between runs: the same pictures, and no text encoder for a prompt that comes again."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.cli import BUILT_IN, QUICK, leftovers, photo, start
from helpers.embeddings import a1111, vectors
from safetensors import safe_open
from safetensors.torch import load, save_file

from sdedit_cli.cli import kept_prompts
from sdedit_cli.cli.kept_prompts import KeptPrompts, stamps_of
from sdedit_cli.cli.main import run
from sdedit_cli.engine.loading import STARTER_FOLDER, open_for_edit, text_of
from sdedit_cli.engine.prompts import Read
from sdedit_cli.options import Edit
from sdedit_cli.weights.load import networks
from sdedit_cli.weights.load.fill import fill

TEXT = "CLIPTextModel"


@pytest.fixture
def filled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The classes of the networks whose weights are read, as they are."""
    seen: list[str] = []

    def counting(module: Any, *args: Any, **options: Any) -> Any:
        seen.append(type(module).__name__)
        return fill(module, *args, **options)

    monkeypatch.setattr(networks, "fill", counting)
    return seen


def made(name: str, *words: str) -> bytes:
    assert run(["run", "in.png", "-o", name, *QUICK, *words]) == 0
    return Path(name).read_bytes()


def entries(folder: Path) -> list[Path]:
    return sorted((folder.parent / "home").rglob("prompts/*.safetensors"))


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_prompt_that_comes_again_loads_no_text_encoder_and_gives_the_same_bytes(
    folder: Path, filled: list[str], dtype: str
) -> None:
    photo(folder / "in.png")
    words = ("-p", "a red (house:1.2)", "-n", "dark", "--dtype", dtype)
    plain = made("plain.png", "--no-cache", *words)
    assert not entries(folder), "nothing is kept by who does not want it"
    assert filled.count(TEXT) == 1
    assert made("first.png", *words) == plain
    assert filled.count(TEXT) == 2
    assert len(entries(folder)) == 1
    assert made("again.png", *words) == plain
    assert filled.count(TEXT) == 2, "its weights are not read"
    assert filled.count("UNet2DCondition") == 3
    assert made("other.png", "--strength", "0.6", "--seed", "5", *words) != plain
    assert filled.count(TEXT) == 2, "and those of another picture neither"


def test_whatever_changes_the_numbers_is_another_entry(folder: Path) -> None:
    photo(folder / "in.png")
    shutil.copytree(BUILT_IN, "model")
    ways: list[tuple[str, ...]] = [
        ("-p", "a cat"),
        ("-p", "a cat", "-n", "a dog"),
        ("-p", "a dog", "-n", "a cat"),
        ("-p", "a cat", "--cfg-scale", "1"),
        ("-p", "a cat", "--clip-skip", "1"),
        ("-p", "a cat", "--no-weighting"),
        ("-p", "a cat", "--dtype", "bf16"),
        ("-p", "a cat", "--model", "model"),
        ("-p", "a cat", "--model", "model", "--partial"),
    ]
    for number, words in enumerate(ways):
        made("x.png", "--on-exists", "overwrite", *words)
        # A copy of the model has the same text encoder, and shares what is kept.
        assert len(entries(folder)) == number + 1 - (number >= 7)
    config = Path("model/text_encoder/config.json")
    told = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps({**told, "hidden_act": "relu"}), encoding="utf-8")
    made("changed.png", "-p", "a cat", "--model", "model")
    assert len(entries(folder)) == len(ways)


@pytest.fixture
def adapters(folder: Path) -> Path:
    """A LoRA on the text encoder alone, and a word."""
    told = json.loads((BUILT_IN / "text_encoder" / "config.json").read_text(encoding="utf-8"))
    draw, width = torch.Generator().manual_seed(0), told["hidden_size"]
    module = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    tensors = {
        f"{module}.lora_up.weight": torch.randn(width, 2, generator=draw),
        f"{module}.lora_down.weight": torch.randn(2, width, generator=draw),
    }
    save_file(tensors, folder / "text.safetensors")
    a1111(folder / "word.pt", vectors(width=width))
    return folder


def _of_adapters(err: str) -> list[str]:
    return [line for line in err.splitlines() if line.startswith(("text", "word", "LoRA"))]


@pytest.mark.parametrize(
    "words",
    [
        ("--lora", "text.safetensors"),
        ("--lora", "text.safetensors:0.5", "--embedding", "word.pt:zorp"),
    ],
)
def test_adapters_of_the_text_encoder_are_in_what_is_kept(
    adapters: Path, filled: list[str], words: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    photo(adapters / "in.png")
    prompt = ("-p", "a zorp house")
    bare = made("bare.png", *prompt)
    plain = made("plain.png", "--no-cache", *prompt, *words)
    assert plain != bare
    told = _of_adapters(capfd.readouterr().err)
    assert len(told) == len(words) // 2
    before = filled.count(TEXT)
    assert made("first.png", *prompt, *words) == plain
    assert filled.count(TEXT) == before + 1, "another adapter is not taken for the same"
    capfd.readouterr()
    assert made("again.png", *prompt, *words) == plain
    assert filled.count(TEXT) == before + 1
    assert _of_adapters(capfd.readouterr().err) == told
    assert made("bare2.png", *prompt) == bare
    assert filled.count(TEXT) == before + 1


def test_a_text_encoder_is_loaded_when_a_new_prompt_comes_with_the_adapters_of_then(
    adapters: Path, filled: list[str]
) -> None:
    """A warm model that began with prompts that were kept."""
    photo(adapters / "in.png")
    word = {"path": "word.pt", "token": "zorp"}
    jobs: list[dict[str, Any]] = [
        {"prompt": "a zorp house"},
        {"prompt": "a zorp tree"},
        {"prompt": "a zorp house", "lora": [{"path": "text.safetensors"}], "embedding": [word]},
        {"prompt": "a zorp tree", "lora": [{"path": "text.safetensors"}], "embedding": [word]},
        {"prompt": "a zorp tree"},
    ]

    def batch(place: str, chosen: list[dict[str, Any]], *more: str) -> list[bytes]:
        rows = [{"input": "in.png", "output": f"{n}.png", **job} for n, job in enumerate(chosen)]
        Path(f"{place}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        assert run(["batch", f"{place}.jsonl", place, "--batch-size", "1", *QUICK, *more]) == 0
        return [Path(place, f"{n}.png").read_bytes() for n in range(len(chosen))]

    plain = batch("plain", jobs, "--no-cache")
    assert len(set(plain)) == 4
    for known in ([0, 2], [1]):
        shutil.rmtree(adapters.parent / "home", ignore_errors=True)
        batch(f"known{''.join(map(str, known))}", [jobs[n] for n in known])
        filled.clear()
        assert batch(f"all{''.join(map(str, known))}", jobs) == plain
        assert filled.count(TEXT) == 1, "once, when it is needed"
        assert filled.count("UNet2DCondition") == 1
    filled.clear()
    assert batch("again", jobs) == plain
    assert filled.count(TEXT) == 0


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def _other(path: Path) -> None:
    """Sound, and of another prompt."""
    keep = path.with_name("other")
    shutil.move(path, keep)
    made("x.png", "-p", "something else", "--on-exists", "overwrite")
    (new,) = entries(path.parents[3] / "work")
    shutil.move(new, path)


def _infinite(path: Path) -> None:
    with safe_open(path, "pt") as held:
        told = json.loads(held.metadata()["sdedit"])
    save_file(load(path.read_bytes()), path, {"sdedit": json.dumps({**told, "limit": math.inf})})


@pytest.mark.parametrize("harm", [_cut, _flip, _other, _infinite, lambda path: path.write_bytes(b"")])
def test_a_damaged_entry_is_ignored_and_written_anew(
    folder: Path, filled: list[str], harm: Callable[[Path], object]
) -> None:
    photo(folder / "in.png")
    plain = made("plain.png", "-p", "a cat")
    (entry,) = entries(folder)
    sound = entry.read_bytes()
    harm(entry)
    assert entry.read_bytes() != sound
    filled.clear()
    assert made("again.png", "-p", "a cat") == plain
    assert filled.count(TEXT) == 1
    assert entry.read_bytes() == sound
    assert made("third.png", "-p", "a cat") == plain
    assert filled.count(TEXT) == 1


def test_the_oldest_go_when_there_are_too_many(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo(folder / "in.png")
    monkeypatch.setattr(kept_prompts, "_MOST_FILES", 2)
    names: list[Path] = []
    for number, prompt in enumerate(("one", "two", "one", "three")):
        made(f"{number}.png", "-p", prompt)
        names += [path for path in entries(folder) if path not in names]
        for age, path in enumerate(names):  # clocks of file systems are coarse
            if path.exists() and prompt != "one":
                os.utime(path, ns=(10**9 * age, 10**9 * age))
    one, two, three = names
    assert entries(folder) == sorted([one, three]), "that which was used again is younger"
    assert not two.exists()
    monkeypatch.setattr(kept_prompts, "_MOST_BYTES", 1)
    made("last.png", "-p", "four")
    (last,) = entries(folder)
    assert last not in names


def test_no_cache_folder_is_no_error(folder: Path) -> None:
    photo(folder / "in.png")
    plain = made("plain.png", "-p", "a cat", "--no-cache")
    place = folder.parent / "home" / "sdedit"
    place.mkdir(parents=True, exist_ok=True)
    (place / "prompts").write_text("in the way", encoding="utf-8")
    assert made("a.png", "-p", "a cat") == plain
    assert made("b.png", "-p", "a cat") == plain


def test_two_at_once_are_as_one_after_the_other(folder: Path) -> None:
    photo(folder / "in.png")
    plain = made("plain.png", "-p", "a cat", "--no-cache")
    several = [start("run", "in.png", "-o", f"{n}.png", "-p", "a cat", *QUICK, cwd=folder) for n in range(2)]
    assert [process.wait(120) for process in several] == [0, 0]
    assert [Path(f"{n}.png").read_bytes() for n in range(2)] == [plain, plain]
    assert len(entries(folder)) == 1
    assert not leftovers(folder.parent)


def test_what_did_not_fit_is_told_each_time(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    photo(folder / "in.png")
    for name in ("first.png", "again.png"):
        made(name, "-p", "cat " * 80 + "dog")
        assert "left out is 'cat" in capfd.readouterr().err


def test_changing_prompts_are_kept_part_by_part(folder: Path, filled: list[str]) -> None:
    photo(folder / "in.png")
    words = ("-p", "[a cat|a dog]", "--steps", "4")
    plain = made("plain.png", *words)
    assert len(entries(folder)) == 2
    filled.clear()
    assert made("again.png", *words) == plain
    assert made("part.png", "-p", "a cat")
    assert filled.count(TEXT) == 0


def test_a_text_encoder_that_comes_late_is_where_the_other_networks_are_and_in_their_precision() -> None:
    """A backend computes in another precision, and elsewhere, than an edit by itself would."""
    edit, device = Edit(dtype="fp32", device="auto"), torch.device("meta")
    read = text_of(edit, open_for_edit(edit, STARTER_FOLDER), device, torch.bfloat16)
    assert read.text_encoder.dtype == torch.bfloat16
    assert read.text_encoder.device == device


def test_a_model_that_took_the_place_of_the_one_that_read_gets_nothing_of_it(folder: Path) -> None:
    shutil.copytree(BUILT_IN, "model")
    weights = next(Path("model/text_encoder").glob("*.safetensors"))
    edit = Edit(prompt="a cat")
    checkpoint = open_for_edit(edit, Path("model"))
    kept = KeptPrompts(edit, checkpoint, stamps_of(checkpoint))
    replaced = Path("other.safetensors")
    replaced.write_bytes(weights.read_bytes())
    os.replace(replaced, weights)
    kept.put({"text": "a cat"}, Read(torch.zeros(1, 2, 3), (), 77))
    kept.write()
    assert not entries(folder)
    again = KeptPrompts(edit, checkpoint, stamps_of(checkpoint))
    again.put({"text": "a cat"}, Read(torch.zeros(1, 2, 3), (), 77))
    again.write()
    assert len(entries(folder)) == 1
