"""A model that stays loaded for the next picture: that picture is what it would be with a model of its own."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.cli import QUICK, events, photo
from safetensors.torch import load_file, save_file

from sdedit_cli.batch.request import Model, Request
from sdedit_cli.cli.host import Models
from sdedit_cli.cli.main import run
from sdedit_cli.options import Edit
from sdedit_cli.options.adapters import IPAdapterFile
from sdedit_cli.pictures.carriers import find

SHIPPED = Path(__file__).parents[2] / "sdedit_cli" / "assets" / "adapters" / "lora" / "blueprint.safetensors"
SETTINGS = ("-p", "a face", *QUICK)


class Lines(io.BytesIO):
    """What a program writes, which does something before its second line."""

    def __init__(self, lines: list[str], between: Callable[[], object]) -> None:
        super().__init__("\n".join(lines).encode())
        self.between = between
        self.count = 0

    def readline(self, size: int | None = -1, /) -> bytes:
        self.count += 1
        if self.count == 2:
            self.between()
        return super().readline(size)


def turned(path: Path) -> None:
    """The LoRA with the opposite effect, under the same name."""
    tensors = load_file(SHIPPED)
    save_file({name: -t if ".lora_up." in name or "lora_B" in name else t for name, t in tensors.items()}, path)


@pytest.mark.parametrize("changes", [True, False])
def test_a_file_that_changed_between_two_jobs_is_read_again(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, changes: bool
) -> None:
    photo(folder / "in.png")
    shutil.copy(SHIPPED, "look.safetensors")
    lines = [
        json.dumps({"input": "in.png", "output": name, "lora": [{"path": "look.safetensors"}]})
        for name in ("1.png", "2.png")
    ]
    between = (lambda: turned(Path("look.safetensors"))) if changes else (lambda: None)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Lines(lines, between)))
    assert run(["batch", "-", "out", "--json", *SETTINGS]) == 0
    loads = [one for one in events(capfd.readouterr().out) if one["event"] == "load"]
    assert len(loads) == 1 + changes, "and a model of the same files stays"
    assert run(["run", "in.png", "-o", "alone.png", "--lora", "look.safetensors", *SETTINGS]) == 0
    assert Path("out/2.png").read_bytes() == Path("alone.png").read_bytes()
    assert (Path("out/1.png").read_bytes() != Path("out/2.png").read_bytes()) == changes


def test_a_lora_is_recorded_under_the_name_that_each_prompt_has_for_it(folder: Path) -> None:
    """It would count twice otherwise where such a picture is repeated."""
    photo(folder / "in.png")
    (folder / "loras").mkdir()
    save_file(load_file(SHIPPED), "loras/file.safetensors", {"ss_output_name": "Title"})
    rows = [{"input": "in.png", "output": f"{n}.png", "prompt": f"a face <lora:{n}:1>"} for n in ("file", "Title")]
    Path("jobs.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    folders = ("--lora-dir", str(folder / "loras"))
    assert run(["batch", "jobs.jsonl", "out", "--batch-size", "1", *folders, *QUICK]) == 0
    names = [[one.name for one in find(f"out/{n}.png").ingredients if one.kind == "lora"] for n in ("file", "Title")]
    assert names == [["file"], ["Title"]]
    assert run(["run", "in.png", "-o", "again.png", "--like", "out/Title.png", *folders]) == 0
    assert Path("again.png").read_bytes() == Path("out/Title.png").read_bytes()


def test_what_an_image_prompt_is_seen_before_makes_another_model() -> None:
    def group(background: str, *images: str) -> object:
        adapter = (IPAdapterFile("ip.safetensors"),) if images else ()
        edit = Edit(background=background, ip_adapter=adapter, ip_image=images)
        return Models(lambda _: None).group(Request(edit, Model("m", None)))

    assert group("black", "look.png") != group("white", "look.png")
    assert group("black") == group("white"), "of the picture to edit it is settled anew for each"
