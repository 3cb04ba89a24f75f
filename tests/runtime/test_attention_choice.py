"""Attention by the fastest backend: measured once a shape, kept, and the same numbers whoever computes them."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend

from sdedit_cli.cli import attention_choices
from sdedit_cli.nn.ops import attention
from sdedit_cli.runtime import attention_choice
from sdedit_cli.runtime.attention_choice import AS_TORCH_LIKES, CHOSEN, ChosenAttention, key_of


class Clock:
    """Says what it is told to; like a device, it refuses what has no kernel."""

    def __init__(self, *seconds: float | None) -> None:
        self.seconds = list(seconds)
        self.asked = 0

    def __call__(self, work: Callable[[], Tensor]) -> float:
        said = self.seconds[self.asked]
        self.asked += 1
        if said is None:
            raise RuntimeError("No available kernel. Aborting execution.")
        return said


def qkv(queries: int = 16, keys: int = 16, width: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(2, 4, queries, width), torch.randn(2, 4, keys, width), torch.randn(2, 4, keys, width)


@pytest.fixture(autouse=True)
def _backends_of_the_cpu(monkeypatch: pytest.MonkeyPatch):
    """The two kernels that torch has for CPUs, in place of those of CUDA."""
    kernels = {"one": SDPBackend.MATH, "two": SDPBackend.FLASH_ATTENTION}
    monkeypatch.setattr(attention_choice, "BACKENDS", kernels)
    with torch.no_grad():
        yield


@pytest.mark.parametrize(
    ("seconds", "name"),
    [
        ((3.0, 2.0, 1.0), "two"),
        ((3.0, 1.0, 2.0), "one"),
        ((1.0, 2.0, 2.0), AS_TORCH_LIKES),
        ((1.0, 0.99, 0.98), AS_TORCH_LIKES),
        ((2.0, None, 1.0), "two"),
        ((2.0, None, None), AS_TORCH_LIKES),
    ],
)
def test_the_fastest_that_runs_is_chosen_where_it_is_worth_it(seconds: tuple[float, ...], name: str) -> None:
    clock = Clock(*seconds)
    chosen, given = ChosenAttention("cpu", clock), qkv()
    first = chosen(*given)
    assert chosen.table == {key_of(*given[:2]): name}
    assert torch.equal(chosen(*given), first)
    assert clock.asked == 3, "a shape is measured once"
    torch.testing.assert_close(first, attention(*given))


def test_another_shape_or_precision_is_measured_for_itself() -> None:
    chosen = ChosenAttention("cpu", Clock(*[1.0] * 12))
    for given in (qkv(), qkv(queries=32), qkv(keys=7), tuple(x.double() for x in qkv())):
        chosen(*given)
    assert len(chosen.table) == 4


def test_a_choice_of_an_earlier_run_is_taken_without_measuring() -> None:
    given = qkv()
    for known in ("one", "of a later release"):
        chosen = ChosenAttention("cpu", Clock(), {key_of(*given[:2]): known})
        torch.testing.assert_close(chosen(*given), attention(*given))


def test_other_devices_and_gradients_get_torch_s_own() -> None:
    given = qkv()
    assert torch.equal(ChosenAttention("cuda", Clock())(*given), attention(*given))
    with torch.enable_grad():
        assert torch.equal(ChosenAttention("cpu", Clock())(*given), attention(*given))


def test_copies_of_a_model_share_what_is_known_of_the_machine() -> None:
    assert copy.deepcopy(CHOSEN) is CHOSEN
    assert pickle.loads(pickle.dumps(CHOSEN)) is CHOSEN


@pytest.mark.parametrize("content", [None, "", "[]", '{"a": 1, "b": "flash"}', '{"b": "flash"}'])
def test_choices_are_kept_beside_those_of_other_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    monkeypatch.setattr(attention_choices, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(CHOSEN, "table", {})
    file = tmp_path / attention_choices.NAME
    if content is not None:
        file.write_text(content)
    kept = attention_choices.Choices("cuda:0")
    before = {"b": "flash"} if content and "flash" in content else {}
    assert CHOSEN.table == before
    kept.keep()
    assert (file.read_text() if file.exists() else None) == content, "nothing new is nothing to write"
    CHOSEN.table["c"] = "cudnn"
    kept.keep()
    assert json.loads(file.read_text()) == {**before, "c": "cudnn"}


def test_a_cpu_has_nothing_to_keep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_choices, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(CHOSEN, "table", {"c": "cudnn"})
    attention_choices.Choices("cpu").keep()
    assert list(tmp_path.iterdir()) == []
