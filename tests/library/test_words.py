"""Errors of the library name arguments, never options of the command line."""

from __future__ import annotations

import ast
import pickle
import re
import shutil
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny.single_files import shared
from safetensors.torch import load_file, save_file

import sdedit_cli
from sdedit_cli import EulerDiscreteScheduler, StableDiffusionImg2ImgPipeline
from sdedit_cli.errors import ModelError, OutputError, SdeditError, UnsafeFileError
from sdedit_cli.library.words import in_arguments

PACKAGE = Path(sdedit_cli.__file__).parent
ROOMS = ("adapters", "configs", "engine", "library", "names", "nn", "noise", "runtime", "text", "weights")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+|(?<![\w-])-m\b")
# Of messages of `sdedit convert` and `sdedit lora`, of advice on sizes, and of what edits of the command line alone can
# ask for: these have no twin in the library.
OF_COMMANDS = {"--to", "--no-ema", "--model", "--rank", "--tile", "--upscaler", "--compile", "--backend", "--device"}


def texts() -> Iterator[str]:
    """Every text in the rooms that the library calls, docstrings left out."""
    for room in ROOMS:
        for path in (PACKAGE / room).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
            nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in prose)
            if path.name != "words.py":
                yield from (node.value for node in nodes if isinstance(node.value, str))


def test_every_option_that_a_message_can_name_has_an_argument_for_it() -> None:
    speaking = [text for text in texts() if OPTION.search(text)]
    assert len(speaking) > 10
    left = {found for text in speaking for found in OPTION.findall(in_arguments(text))}
    assert left <= OF_COMMANDS


def test_words_that_are_no_options_stay() -> None:
    for text in ("a well-meant -- dash", "x--vae", "model-m", "--vaer", "--em"):
        assert in_arguments(text) == text
    assert in_arguments("give --config FOLDER, or --vae.") == "give `config=`, or `vae=`."


def broken(tmp_path: Path, kind: str) -> Path:
    folder = tmp_path / kind
    shutil.copytree(shared("sd15")[0], folder)
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    if kind == "missing":
        del state["conv_in.bias"]
    else:
        state["more"] = torch.zeros(1)
    save_file(state, path)
    return folder


@pytest.mark.parametrize("kind", ["missing", "surplus"])
def test_what_does_not_fit_is_loaded_with_partial(kind: str, tmp_path: Path) -> None:
    folder = broken(tmp_path, kind)
    with pytest.raises(SdeditError, match="`partial=True`") as refused:
        StableDiffusionImg2ImgPipeline.from_pretrained(folder)
    assert not OPTION.search(str(refused.value))
    StableDiffusionImg2ImgPipeline.from_pretrained(folder, partial=True)


def test_loaders_speak_of_their_arguments(tmp_path: Path) -> None:
    lora = tmp_path / "lora.safetensors"
    save_file({"lora_unet_x.lora_down.weight": torch.zeros(1)}, lora)
    folder, single = shared("sd15")
    refused = {
        "`load_lora_weights`": lambda: StableDiffusionImg2ImgPipeline.from_single_file(lora),
        "leave `ema` out": lambda: StableDiffusionImg2ImgPipeline.from_single_file(single, ema=True),
        "`local_files_only=False`": lambda: EulerDiscreteScheduler.from_pretrained("no/such", local_files_only=True),
        "`to\\('cpu'\\)`": lambda: StableDiffusionImg2ImgPipeline.from_pretrained(folder).to("cuda:99"),
    }
    for words, call in refused.items():
        with pytest.raises(SdeditError, match=words) as told:
            call()
        assert not OPTION.search(str(told.value))


def test_the_switch_for_a_device_speaks_of_it_in_a_scripts_words() -> None:
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(shared("sd15")[0])
    with pytest.raises(SdeditError, match="this machine has") as told:
        pipe.enable_model_cpu_offload(gpu_id=99)
    assert not OPTION.search(str(told.value))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("callback", "`callback`: it is retired; use `callback_on_step_end`"),
        ("init_image", "`init_image`: it is retired; use `image`"),
        ("num_inference_step", "no such argument; did you mean 'num_inference_steps'"),
        ("negative", "no such argument; did you mean 'negative_prompt'"),
        ("zzz", "`zzz`: no such argument"),
    ],
)
def test_an_argument_that_a_call_does_not_take_is_told_with_the_one_it_does(name: str, words: str) -> None:
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(shared("sd15")[0])
    with pytest.raises(ValueError, match=words):
        pipe("a", **{name: 1})


class Attack:
    def __reduce__(self) -> Any:
        return print, ("run",)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Files that no loader can use, each for another reason."""
    (tmp_path / "empty.safetensors").write_bytes(b"")
    (tmp_path / "text.safetensors").write_bytes(b"no weights " * 99)
    (tmp_path / "long.safetensors").write_bytes((1 << 62).to_bytes(8, "little") + b"{}")
    (tmp_path / "attack.bin").write_bytes(pickle.dumps({"a": Attack()}))
    (tmp_path / "folder").mkdir()
    save_file({"a": torch.zeros(3)}, tmp_path / "other.safetensors")
    return tmp_path


LOADERS: dict[str, Callable[[Any, Path], Any]] = {
    "from_single_file": lambda pipe, path: type(pipe).from_single_file(path),
    "load_lora_weights": lambda pipe, path: pipe.load_lora_weights(path),
    "load_textual_inversion": lambda pipe, path: pipe.load_textual_inversion(path),
    "load_ip_adapter": lambda pipe, path: pipe.load_ip_adapter(path, "", path.name, image_encoder_folder=None),
    "lora_state_dict": lambda pipe, path: pipe.lora_state_dict(path),
}


@pytest.mark.parametrize("loader", LOADERS)
def test_a_file_that_cannot_be_used_is_caught_as_the_references_is(loader: str, files: Path) -> None:
    """It raises ValueErrors of some files, OSErrors of others: scripts catch the one that they have met."""
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(shared("sd15")[0])
    names = ["empty.safetensors", "text.safetensors", "long.safetensors", "attack.bin", "folder", "missing.bin"]
    for name in names if loader == "lora_state_dict" else [*names, "other.safetensors"]:
        for kind in (ValueError, OSError, ModelError):
            with pytest.raises(kind, match=name.partition(".")[0]) as told:
                LOADERS[loader](pipe, files / name)
            assert isinstance(told.value, UnsafeFileError) == (name == "attack.bin")
        again = pickle.loads(pickle.dumps(told.value))
        assert (type(again), str(again)) == (type(told.value), str(told.value))
        assert "During handling" not in "".join(traceback.format_exception(told.value))


@pytest.mark.parametrize("source", [None, 3, b"model"])
def test_what_is_no_place_at_all_is_told_by_its_type(source: Any) -> None:
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(shared("sd15")[0])
    calls = {**LOADERS, "from_pretrained": lambda pipe, path: type(pipe).from_pretrained(path)}
    calls["load_ip_adapter"] = lambda pipe, path: pipe.load_ip_adapter(path, "", "x.bin")
    for call in calls.values():
        with pytest.raises(TypeError, match=f"is a {type(source).__name__}; expected a path") as told:
            call(pipe, source)
        assert isinstance(told.value, SdeditError)


def test_a_folder_that_is_none_and_a_place_that_is_taken_are_caught_too(files: Path) -> None:
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(shared("sd15")[0])
    for kind in (ValueError, OSError):
        for missing in ("missing", "folder"):
            with pytest.raises(kind, match=missing):
                StableDiffusionImg2ImgPipeline.from_pretrained(files / missing)
            with pytest.raises(kind, match=missing):
                EulerDiscreteScheduler.from_pretrained(files / missing)
        with pytest.raises(kind, match="attack") as told:
            pipe.save_pretrained(files / "attack.bin")
        assert isinstance(told.value, OutputError)
