"""Folders of adapters: names and hashes find the file that is meant, and nothing else."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from helpers.cli import QUICK, photo

from sdedit_cli.cli import folders as rooms
from sdedit_cli.cli.folders import KINDS, Folders, adapter_folders
from sdedit_cli.cli.main import run
from sdedit_cli.errors import ModelError
from sdedit_cli.presets import UserConfig


def put(path: Path, data: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def embeddings(*places: Path) -> Folders:
    return Folders(KINDS["embedding"], places)


def test_names_are_found_as_people_type_them(folder: Path) -> None:
    style = put(folder / "a" / "MyStyle.pt")
    deep = put(folder / "a" / "people" / "me.safetensors")
    put(folder / "a" / "MyStyle.preview.png")
    put(folder / "a" / "notes.txt")
    put(folder / "a" / ".hidden.pt")
    put(folder / "a" / "cat-toy" / "learned_embeds.bin")
    put(folder / "a" / "cat-toy" / "text_encoder.bin")
    other = put(folder / "b" / "mystyle.safetensors")
    both = embeddings(folder / "a", folder / "b", folder / "nowhere")
    found = {
        word: both.find(word)
        for word in (
            "mystyle",
            "MYSTYLE",
            "mystyle.pt",
            "mystyle.safetensors",
            "me",
            "people/ME",
            "people\\me",
            "cat-toy",
        )
    }
    assert found == {
        **dict.fromkeys(("mystyle", "MYSTYLE", "mystyle.pt"), style),
        "mystyle.safetensors": other,
        **dict.fromkeys(("me", "people/ME", "people\\me"), deep),
        "cat-toy": folder / "a" / "cat-toy",
    }
    assert [both.find(word) for word in ("notes", "style", "learned_embeds", ".hidden", "mystyle.preview", "")] == [
        None
    ] * 6
    assert both.names() == ["MyStyle", "cat-toy", "me", "mystyle"]


def test_pictures_hold_embeddings_and_no_loras(folder: Path) -> None:
    put(folder / "a" / "word.png")
    assert embeddings(folder / "a").names() == ["word"]
    assert Folders(KINDS["lora"], [folder / "a"]).names() == []


def test_two_files_of_one_name_are_both_named(folder: Path) -> None:
    put(folder / "style.pt")
    put(folder / "old" / "Style.safetensors")
    both = embeddings(folder)
    with pytest.raises(ModelError, match=r"'style' names 2 files: .*style\.pt and .*Style\.safetensors"):
        both.find("style")
    assert both.find("style.pt") == folder / "style.pt"
    assert both.find("old/style") == folder / "old" / "Style.safetensors"
    loras = Folders(KINDS["lora"], [folder])
    assert loras.find("style") == folder / "style.pt"
    assert loras.find("Style") == folder / "old" / "Style.safetensors"
    with pytest.raises(ModelError, match="'STYLE' names 2 files"):
        loras.find("STYLE")


def test_a_hash_finds_what_was_renamed(folder: Path) -> None:
    first, second = put(folder / "one.pt", b"1"), put(folder / "two.pt", b"2")
    sha256 = hashlib.sha256(b"2").hexdigest()
    read: list[Path] = []

    def hash_of(path: Path) -> str:
        read.append(path)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    found = embeddings(folder)
    assert found.by_hash(sha256[:10].upper(), "two", hash_of) == second
    assert read == [second]  # a file of that name comes first
    assert found.by_hash(sha256, "elsewhere", hash_of) == second
    assert found.by_hash(sha256, "again", hash_of) == second
    assert sorted(read) == [first, second]  # and each is read once
    assert found.by_hash(sha256[:7]) is None
    assert found.by_hash("0" * 64) is None
    assert found.by_hash(sha256) == second


def test_the_search_for_a_hash_has_an_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        put(folder / f"{number}.pt", b"%d" % number * 100)
    monkeypatch.setattr(rooms, "_MOST_BYTES", 250)
    last = hashlib.sha256(b"4" * 100).hexdigest()
    assert embeddings(folder).by_hash(last) is None
    assert embeddings(folder).by_hash(last, "4") == folder / "4.pt"  # a file of its name is always looked at


def test_what_holds_too_much_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        put(folder / f"{number}.txt")
    monkeypatch.setattr(rooms, "_MOST_ENTRIES", 4)
    with pytest.raises(ModelError, match=r"holds more than 4 files; .* --embedding-dir, \$SDEDIT_EMBEDDINGS"):
        embeddings(folder).find("x")


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_back_do_not_go_round(folder: Path) -> None:
    put(folder / "a" / "style.pt")
    (folder / "a" / "again").symlink_to(folder, target_is_directory=True)
    assert embeddings(folder / "a").find("style") == folder / "a" / "style.pt"
    assert embeddings(folder / "a").names() == ["style"]


def test_folders_of_options_come_first(folder: Path) -> None:
    config = UserConfig(None, adapter_folders={"lora": (folder / "b",)})  # pyright: ignore[reportArgumentType]
    (folder / "a").mkdir()
    found = adapter_folders({"lora_dir": (str(folder / "a"),), "embedding_dir": ()}, config)
    *named, shipped = found["lora"].folders
    assert named == [folder / "a", folder / "b"]
    assert [path.stem for path in shipped.iterdir()] == ["blueprint"]
    assert [path.stem for path in found["embedding"].folders[-1].iterdir()] == ["emoji-gold"]
    with pytest.raises(ModelError, match=r"--embedding-dir nowhere: no such folder"):
        adapter_folders({"embedding_dir": ("nowhere",)}, config)


@pytest.mark.parametrize("kind", ["lora", "embedding"])
def test_the_command_line_says_what_is_not_there(kind: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(folder / "have" / "harbour.safetensors")
    command = ["run", str(photo(folder / "a.png")), *QUICK, f"--{kind}"]
    assert run([*command, "harbor", f"--{kind}-dir", "have"]) == 3
    assert "did you mean 'harbour'?" in capsys.readouterr().err
    assert run([*command, "harbor"]) == 3
    assert f"none are set); name its folder with --{kind}-dir" in " ".join(capsys.readouterr().err.split())
