"""Device and precision are chosen as documented, and what is not there is refused by name."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny.networks import tiny_unet, tiny_vae

from sdedit_cli.errors import UsageError
from sdedit_cli.runtime import device as devices
from sdedit_cli.runtime import dtype as dtypes
from sdedit_cli.runtime.memory import Offload


def here(monkeypatch: pytest.MonkeyPatch, **counts: int) -> None:
    monkeypatch.setattr(devices, "counts", lambda: {"cuda": 0, "xpu": 0, "mps": 0, "cpu": 1, **counts})


@pytest.mark.parametrize(("kind", "expected"), [("cuda", "cuda"), ("xpu", "xpu"), ("mps", "mps"), ("cpu", "cpu")])
def test_auto_is_the_best_device_there_is(monkeypatch: pytest.MonkeyPatch, kind: str, expected: str) -> None:
    here(monkeypatch, **{kind: 1})
    assert devices.pick("auto") == torch.device(expected)


def test_devices_are_picked_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    here(monkeypatch, cuda=2)
    assert devices.pick("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(UsageError, match=r"'cuda:2' is not there: this machine has cuda:0\.\.1, cpu"):
        devices.pick("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:²", "", ":1", "meta"])
def test_unknown_devices_are_refused_by_name(name: str) -> None:
    with pytest.raises(UsageError, match="is unknown; expected auto"):
        devices.pick(name)


@pytest.mark.parametrize("name", ["mps", "xpu", "cuda"])
def test_absent_devices_are_refused_with_what_is_there(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    here(monkeypatch)
    with pytest.raises(UsageError, match="this machine has cpu; try --device auto"):
        devices.pick(name)


def test_this_machine_s_devices_can_be_used() -> None:
    assert torch.zeros(1, device=devices.pick("auto")).item() == 0


@pytest.mark.parametrize(
    ("device", "multiplies", "expected"),
    [
        ("cuda", False, torch.float16),
        ("cuda:1", True, torch.float16),
        ("cpu", True, torch.bfloat16),
        ("cpu", False, torch.float32),
        ("mps", True, torch.float32),
    ],
)
def test_auto_precision_follows_the_device(
    monkeypatch: pytest.MonkeyPatch, device: str, multiplies: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr(dtypes, "cpu_multiplies_bfloat16", lambda: multiplies)
    assert dtypes.choose("auto", torch.device(device)) is expected


@pytest.mark.parametrize("name", dtypes.DTYPES)
def test_precision_by_name(name: str) -> None:
    assert dtypes.choose(name) is dtypes.DTYPES[name]


def test_unknown_precision_is_refused_with_a_hint() -> None:
    with pytest.raises(UsageError, match="did you mean 'float16'"):
        dtypes.choose("flaot16")


def test_the_cpu_question_has_an_answer() -> None:
    assert dtypes.cpu_multiplies_bfloat16() in (True, False)


def test_offload_keeps_one_network_on_the_device_and_gives_it_back_unchanged() -> None:
    unet, vae = tiny_unet(), tiny_vae()
    before = [p.detach().clone() for p in unet.parameters()]
    offload = Offload(devices.pick("auto"))
    offload.bring(unet)
    offload.bring(unet)
    offload.bring(vae)
    assert unet.device.type == "cpu"
    assert vae.device.type == offload.device.type
    offload.release()
    assert vae.device.type == "cpu"
    assert all(torch.equal(a, b) for a, b in zip(before, unet.parameters(), strict=True))
