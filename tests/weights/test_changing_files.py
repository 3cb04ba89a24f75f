"""Files that are cut, replaced or written to while they are in use: told at the next look, or not in the way at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.cli import QUICK, photo
from helpers.embeddings import vectors
from helpers.loras import DIALECTS, factors
from helpers.pipelines import picture, write_checkpoint
from helpers.tiny.single_files import shared
from helpers.weights import TinyNet, meta_net, msgpack
from safetensors.torch import save_file

from sdedit_cli import StableDiffusionImg2ImgPipeline as Pipe
from sdedit_cli.cli.main import run
from sdedit_cli.errors import ModelError
from sdedit_cli.weights import fill, open_weights
from sdedit_cli.weights.formats.mapped_file import reading

posix = pytest.mark.skipif(os.name != "posix", reason="Windows lets nobody change a file that is mapped")
pytestmark = posix
STATE = {"a": torch.arange(4000.0), "b": torch.arange(3000.0)}


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def replaced(path: Path) -> None:
    other = path.with_name("other")
    shutil.copy2(path, other)
    os.replace(other, path)


def grown(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def touched(path: Path) -> None:
    os.utime(path, (1, 1))


CHANGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "cut": (cut, "bytes"),
    "emptied": (lambda path: os.truncate(path, 0), "to 0 bytes"),
    "replaced": (replaced, "its time is another"),
    "grown": (grown, "bytes"),
    "written to": (touched, "its time is another"),
    "removed": (lambda path: path.unlink(), "it is gone"),
}
FORMATS: dict[str, Callable[[Path], object]] = {
    "safetensors": lambda path: save_file(STATE, path),
    "pickle": lambda path: torch.save(STATE, path),
    "pickle, older": lambda path: torch.save(STATE, path, _use_new_zipfile_serialization=False),
    "Flax": lambda path: path.write_bytes(msgpack(STATE)),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("format", FORMATS)
def test_a_file_that_changes_after_it_was_opened_is_told(format: str, change: str, tmp_path: Path) -> None:
    path = tmp_path / "w"
    FORMATS[format](path)
    source = open_weights(path)
    assert source.get("a").equal(STATE["a"])
    CHANGES[change][0](path)
    with pytest.raises(ModelError, match=f"has changed while it was in use.*{CHANGES[change][1]}.*--no-mmap"):
        source.get("b")


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("format", FORMATS)
def test_what_was_read_into_memory_is_what_was_there(format: str, change: str, tmp_path: Path) -> None:
    path = tmp_path / "w"
    FORMATS[format](path)
    with reading(whole=True):
        source = open_weights(path)
    CHANGES[change][0](path)
    assert all(source.get(name).equal(tensor) for name, tensor in STATE.items())
    source.release("a")
    assert source.get("a").equal(STATE["a"])


def test_reading_into_memory_ends_with_its_block_and_is_of_one_thread(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    FORMATS["safetensors"](tmp_path / "w")
    with reading(whole=True), ThreadPoolExecutor(1) as pool:
        mapped = [pool.submit(open_weights, tmp_path / "w").result()]
    mapped.append(open_weights(tmp_path / "w"))
    touched(tmp_path / "w")
    for source in mapped:
        with pytest.raises(ModelError, match="has changed"):
            source.get("a")


def test_an_empty_file_is_told_as_ever(tmp_path: Path) -> None:
    (tmp_path / "w").touch()
    with reading(whole=True), pytest.raises(ModelError, match="is empty"):
        open_weights(tmp_path / "w")


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("change", [replaced, touched, grown, cut])
def test_a_change_in_the_middle_of_a_load_is_told(
    change: Callable[[Path], None], dtype: torch.dtype | None, tmp_path: Path
) -> None:
    """The change comes when the last tensor's views were given out and the first was read."""
    net = TinyNet()
    save_file({**net.state_dict(), "norm.num_batches_tracked": torch.tensor(0)}, tmp_path / "w")
    came: list[Path] = []

    def changing(weight: torch.Tensor) -> torch.Tensor:
        came.append(tmp_path / "w")
        change(came[0])
        return torch.zeros_like(weight)

    with pytest.raises(ModelError, match="has changed while it was in use"):
        fill(meta_net(), open_weights(tmp_path / "w"), dtype, deltas={"linear.weight": [changing]})
    assert len(came) == 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("model")
    write_checkpoint(place, "sd15")
    return place


def made(pipe: Pipe) -> bytes:
    options = {"num_inference_steps": 3, "generator": torch.Generator().manual_seed(1), "output_type": "np"}
    return pipe(prompt="a cat", image=picture(), **options).images.tobytes()


def test_a_pipeline_read_into_memory_outlives_its_files(folder: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(folder, tmp_path / "copied"))
    pipe = Pipe.from_pretrained(copied, disable_mmap=True)
    for path in copied.rglob("*.safetensors"):
        os.truncate(path, 0)  # who had mapped them would be ended by the system
    assert made(pipe) == made(Pipe.from_pretrained(folder, disable_mmap=False))


def test_so_does_one_of_a_single_file(tmp_path: Path) -> None:
    path = Path(shutil.copy(shared("sd15")[1], tmp_path))
    pipe = Pipe.from_single_file(path, disable_mmap=True)
    os.truncate(path, 0)
    assert made(pipe) == made(Pipe.from_single_file(shared("sd15")[1]))


@pytest.mark.parametrize("change", CHANGES)
def test_an_adapter_and_a_word_outlive_their_files(change: str, folder: Path, tmp_path: Path) -> None:
    pipe = Pipe.from_pretrained(folder)
    save_file(DIALECTS["kohya"](pipe, factors(pipe, everything=False)), tmp_path / "l.safetensors")
    save_file({"<word>": vectors()}, tmp_path / "w.safetensors")
    pipe.load_lora_weights(tmp_path / "l.safetensors", adapter_name="one")
    pipe.load_textual_inversion(tmp_path / "w.safetensors")
    before = made(pipe)
    for name in ("l", "w"):
        CHANGES[change][0](tmp_path / f"{name}.safetensors")
    pipe.set_adapters("one", 0.5)
    assert made(pipe) != before
    pipe.set_adapters("one", 1.0)
    assert made(pipe) == before


def test_the_command_line_reads_into_memory_where_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same pictures and models; that nothing is mapped, the files' own readers say."""
    from sdedit_cli.weights.formats import mapped_file

    read: list[int] = []
    monkeypatch.setattr(
        mapped_file, "_read", lambda file, size, own=mapped_file._read: read.append(size) or own(file, size)
    )
    monkeypatch.chdir(tmp_path)
    photo(tmp_path / "a.png")
    model = str(shared("sd15")[1])
    words = ["run", "a.png", "-m", model, "--sampler", "ddim", *QUICK, "--no-cache", "-o"]
    assert run([*words, "mapped.png"]) == 0
    assert run(["convert", model, "mapped"]) == 0
    assert not read
    assert run([*words, "whole.png", "--no-mmap"]) == 0
    assert len(read) == 1
    assert run(["convert", model, "whole", "--no-mmap"]) == 0
    assert len(read) > 1
    assert (tmp_path / "mapped.png").read_bytes() == (tmp_path / "whole.png").read_bytes()
    one, two = (
        {p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file()} for f in (Path("mapped"), Path("whole"))
    )
    assert one == two
