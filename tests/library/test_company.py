"""Pipelines in several threads, in forked processes, copied and pickled: pictures are as each makes them alone."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.cli import environment
from helpers.embeddings import vectors
from helpers.loras import DIALECTS, factors
from helpers.pipelines import picture, write_checkpoint
from safetensors.torch import save_file

from sdedit_cli import StableDiffusionImg2ImgPipeline
from sdedit_cli.errors import UsageError

Pipe = StableDiffusionImg2ImgPipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("model")
    write_checkpoint(place, "sd15")
    return place


@pytest.fixture
def pipe(folder: Path) -> Pipe:
    return Pipe.from_pretrained(folder)


@pytest.fixture
def dressed(pipe: Pipe, tmp_path: Path) -> Pipe:
    """With an adapter and a word loaded."""
    save_file(DIALECTS["kohya"](pipe, factors(pipe, everything=False)), tmp_path / "l.safetensors")
    pipe.load_lora_weights(tmp_path / "l.safetensors", adapter_name="one")
    pipe.load_textual_inversion({"<word>": vectors(2)}, token="<word>")
    return pipe


def made(pipe: Pipe, seed: int = 1, prompt: str = "a <word>", **options: Any) -> bytes:
    options = {"num_inference_steps": 4, "generator": torch.Generator().manual_seed(seed), **options}
    return pipe(prompt=prompt, image=picture(), output_type="np", **options).images.tobytes()


# What calls may differ in: each of these is kept in the pipeline or its weights while a call is at work.
REQUESTS: tuple[dict[str, Any], ...] = (
    {"seed": 1},
    {"seed": 2, "cross_attention_kwargs": {"scale": 0.3}},
    {"seed": 3, "guidance_scale": 1.0},
    {"seed": 4, "guidance_scale": 3.0, "cross_attention_kwargs": {"scale": 0.0}},
    {"seed": 5, "num_inference_steps": 7, "prompt": "another"},
)


def together(*works: Callable[[], bytes]) -> list[bytes]:
    """What each gives, all begun at once in threads of their own."""
    ready = threading.Barrier(len(works))

    def one(work: Callable[[], bytes]) -> bytes:
        ready.wait()
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(one, works))


def test_a_pipeline_that_threads_share_serves_them_as_if_alone(dressed: Pipe) -> None:
    alone = [made(dressed, **request) for request in REQUESTS]
    assert len(set(alone)) == len(REQUESTS)
    for _ in range(3):
        assert together(*(lambda request=request: made(dressed, **request) for request in REQUESTS)) == alone


def test_adapters_that_another_thread_takes_away_are_there_to_the_end_of_a_call(dressed: Pipe) -> None:
    """The call is in its first step when the other thread asks, and the other thread waits."""
    before = made(dressed)
    begun = threading.Event()
    left: list[str] = []

    def told(*_: Any) -> dict[str, Any]:
        begun.set()
        left.extend(dressed.get_active_adapters())
        return {}

    def takes_away() -> bytes:
        begun.wait(60)
        dressed.unload_lora_weights()
        return b""

    assert together(lambda: made(dressed, callback_on_step_end=told), takes_away)[0] == before
    assert left == ["one"] * 3  # of 4 steps at strength 0.8
    assert not dressed.get_active_adapters()
    assert made(dressed) != before


def test_another_thread_may_interrupt_and_need_not_wait(pipe: Pipe) -> None:
    begun, asked = threading.Event(), threading.Event()

    def told(*_: Any) -> dict[str, Any]:
        begun.set()
        assert asked.wait(60)
        return {}

    def interrupts() -> bytes:
        begun.wait(60)
        pipe.interrupt = True
        asked.set()
        return b""

    together(lambda: made(pipe, callback_on_step_end=told, num_inference_steps=50), interrupts)
    assert pipe.interrupt


def test_an_error_in_one_thread_lets_the_next_go_on(pipe: Pipe) -> None:
    alone = made(pipe)

    def refused() -> bytes:
        with pytest.raises(UsageError):
            made(pipe, strength=2.0)
        return b""

    assert together(refused, lambda: made(pipe), refused) == [b"", alone, b""]


def test_pipelines_in_threads_of_their_own_do_not_disturb_each_other(folder: Path, dressed: Pipe) -> None:
    other = Pipe.from_pretrained(folder)
    other.enable_freeu(0.9, 0.2, 1.3, 1.4)
    alone = [made(dressed), made(other), made(dressed, seed=9)]
    assert together(lambda: made(dressed), lambda: made(other), lambda: made(dressed, seed=9)) == alone


def test_loads_in_threads_are_whole(folder: Path, pipe: Pipe) -> None:
    import gc

    alone = made(pipe)
    assert gc.isenabled()
    assert together(*[lambda: made(Pipe.from_pretrained(folder))] * 4) == [alone] * 4
    assert gc.isenabled()


COPIES: dict[str, Callable[[Pipe], Pipe]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda pipe: pickle.loads(pickle.dumps(pipe)),
    "deepcopy of a copy": lambda pipe: copy.deepcopy(copy.copy(pipe)),
}


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_makes_the_same_pictures_and_goes_its_own_way(way: str, dressed: Pipe, folder: Path) -> None:
    plain, before = made(Pipe.from_pretrained(folder)), made(dressed)
    other = COPIES[way](dressed)
    assert made(other) == before
    other.set_adapters("one", 0.5)
    assert made(other) != before
    other.unload_lora_weights()
    other.unload_textual_inversion()
    assert made(other) == plain
    assert made(dressed) == before
    dressed.unload_lora_weights()
    dressed.unload_textual_inversion()
    assert made(dressed) == made(other) == plain


def test_a_copy_of_a_pipeline_at_work_is_at_nobodys(pipe: Pipe) -> None:
    """A copy that is made in a callback does not wait for the call that it was made in."""
    copies: list[Pipe] = []

    def told(own: Pipe, *_: Any) -> dict[str, Any]:
        copies.append(copy.deepcopy(own))
        return {}

    alone = made(pipe)
    assert made(pipe, callback_on_step_end=told) == alone
    assert together(lambda: made(copies[0]), lambda: made(pipe)) == [alone, alone]


FORKED = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system has no fork")
_FORK = """
import multiprocessing, os, sys, threading
import torch
from helpers.pipelines import picture
from sdedit_cli import StableDiffusionImg2ImgPipeline as Pipe

torch.set_num_threads(int(sys.argv[2]))
pipe = Pipe.from_pretrained(sys.argv[1])

def made(told=None):
    generator = torch.Generator().manual_seed(1)
    options = {"num_inference_steps": 4, "generator": generator, "output_type": "np", "callback_on_step_end": told}
    return pipe(prompt="a cat", image=picture(64, 64), **options).images.tobytes()

def forked():
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=lambda: queue.put(made()))
    child.start()
    found = queue.get()
    child.join()
    return found

made()  # with all its threads
found = [forked()]
other = threading.Thread(target=made, args=(lambda *_: found.append(forked()) or {},))  # while a call is at work
other.start()
other.join()
torch.set_num_threads(1)
assert len(found) == 4, len(found)
assert set(found) == {made()}
print("same")
"""


@FORKED
@pytest.mark.parametrize("threads", [1, 2])
def test_a_forked_process_edits_as_its_parent_does_on_one_thread(folder: Path, threads: int) -> None:
    """The threads of the parent are not in the child, and to wait for them would be for ever."""
    more = {"PYTHONPATH": f"{environment()['PYTHONPATH']}:{Path(__file__).parents[1]}", "PYTHONWARNINGS": "ignore"}
    words = [sys.executable, "-c", _FORK, str(folder), str(threads)]
    done = subprocess.run(words, env=environment(**more), capture_output=True, timeout=300, check=False)
    assert done.stdout.decode().strip() == "same", done.stderr.decode()[-2000:]


def test_a_pickle_holds_no_file(folder: Path, tmp_path: Path, dressed: Pipe) -> None:
    """It can be read where the model's files are not."""
    before = made(dressed)
    (tmp_path / "p").write_bytes(pickle.dumps(dressed))
    (tmp_path / "l.safetensors").unlink()
    again = pickle.loads((tmp_path / "p").read_bytes())
    again.set_adapters("one", 0.5)
    again.set_adapters("one", 1.0)
    assert made(again) == before
    assert np.array_equal(again.unet.conv_in.weight, dressed.unet.conv_in.weight)
