"""Words of prompts that name files in the embedding folders: found as in web UIs, told, recorded, found by hash."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from helpers.cli import BUILT_IN, QUICK, photo
from PIL import Image
from safetensors.torch import save_file

from sdedit_cli.cli.main import run
from sdedit_cli.cli.words import mentioned

WIDTH = json.loads((BUILT_IN / "text_encoder" / "config.json").read_text())["hidden_size"]

CASES: list[tuple[str, list[str], list[str]]] = [
    ("a photo, EasyNegative, x", ["easynegative", "negative"], ["easynegative"]),
    ("(bad-hands-5:1.3), [bad-hands:x:0.5]", ["bad-hands", "bad-hands-5"], ["bad-hands-5", "bad-hands"]),
    ("styles restyle style2 style_x", ["style"], []),
    ("a<me>b", ["<me>", "me"], ["<me>"]),
    (r"by my \(own\) hand", ["my (own)"], ["my (own)"]),
    ("MY  own\nstyle", ["my own style"], ["my own style"]),
    ("a b", ["a", "b"], []),
    ("", ["x"], []),
    ("über, straße", ["über", "stra"], ["über"]),
    ("c++ and .net", ["c++", ".net"], ["c++", ".net"]),
    ("twice twice", ["twice"], ["twice"]),
]


@pytest.mark.parametrize(("text", "names", "found"), CASES)
def test_words_are_found_as_web_uis_do(text: str, names: list[str], found: list[str]) -> None:
    assert mentioned(text, names) == found


def embedding(path: Path, seed: int = 0, count: int = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    vectors = torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))
    save_file({"emb_params": vectors}, path)
    return path


def made(name: str, *options: str) -> Image.Image:
    assert run(["run", str(photo(Path("a.png"))), *QUICK, "-o", name, "--on-exists", "overwrite", *options]) == 0
    image = Image.open(name)
    image.load()
    return image


def test_a_word_of_the_prompt_is_loaded_told_and_recorded(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = embedding(folder / "words" / "sub" / "MyHarbour.safetensors")
    embedding(folder / "words" / "unused.safetensors")
    prompts = ("-p", "an apple, myharbour", "-n", "ugly")
    plain = made("plain.png", *prompts)
    capsys.readouterr()
    loaded = made("words.png", *prompts, "--embedding-dir", "words")
    said = " ".join(capsys.readouterr().err.split())
    assert "MyHarbour.safetensors: the word 'MyHarbour' of 2 vectors" in said
    assert "unused" not in said
    named = made("named.png", *prompts, "--embedding", str(file))
    assert loaded.tobytes() == named.tobytes() != plain.tobytes()
    (one,) = json.loads(loaded.text["sdedit"])["ingredients"]
    assert one == {
        "kind": "embedding",
        "name": "MyHarbour",
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }
    negative = made("negative.png", "-p", "an apple", "-n", "myharbour", "--embedding-dir", "words")
    assert "embedding" in negative.text["sdedit"]


def test_like_finds_embeddings_by_their_hashes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = embedding(folder / "words" / "harbour.safetensors")
    first = made("first.png", "-p", "an apple <x>", "--embedding", f"{file}:<x>")
    file.rename(folder / "words" / "renamed.safetensors")
    embedding(folder / "words" / "harbour.safetensors", seed=4)
    again = made("again.png", "--like", "first.png", "--embedding-dir", "words")
    assert again.tobytes() == first.tobytes()
    assert "ignored" not in capsys.readouterr().err
    without = made("without.png", "--like", "first.png")
    assert "ignored is embedding: <x>" in " ".join(capsys.readouterr().err.split())
    assert without.tobytes() != first.tobytes()


def test_the_text_of_web_uis_names_hashes_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL.PngImagePlugin import PngInfo

    file = embedding(folder / "words" / "renamed.safetensors")
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    info = PngInfo()
    text = 'an apple, fruity\nSteps: 4, Sampler: Euler, Seed: 1, TI hashes: "fruity: {}, gone: 0123456789ab"'
    info.add_text("parameters", text.format(sha256))
    Image.new("RGB", (64, 48), "red").save("like.png", pnginfo=info)
    made("x.png", "--like", "like.png", "--embedding-dir", "words", "--prompt", "an apple, fruity")
    said = " ".join(capsys.readouterr().err.split())
    assert "renamed.safetensors: the word 'fruity' of 2 vectors" in said
    assert "ignored is embedding: gone" in said


def test_files_of_one_word_are_both_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    embedding(folder / "words" / "apple.safetensors")
    embedding(folder / "words" / "old" / "Apple.safetensors")
    command = ["run", str(photo(folder / "a.png")), *QUICK, "--embedding-dir", "words"]
    assert run([*command, "-p", "an apple"]) == 3
    said = capsys.readouterr().err
    assert "'apple' names 2 files" in said
    assert "apple.safetensors" in said
    assert run([*command, "-p", "a house", "-o", "fine.png"]) == 0  # nobody asked for it
