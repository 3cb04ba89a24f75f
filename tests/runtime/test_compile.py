"""`--compile`: never by itself, recorded where it was asked for, refused in words where nothing can be compiled."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from helpers.tiny.networks import tiny_unet

from sdedit_cli.errors import UsageError
from sdedit_cli.options import Edit
from sdedit_cli.runtime import compile as compiling
from sdedit_cli.runtime.compile import check_compiler, compile_blocks


def test_it_is_off_and_recorded_when_it_is_on() -> None:
    assert not Edit().compile
    assert "compile" not in Edit().saved() or Edit().saved()["compile"] is False
    assert Edit(compile=True).saved()["compile"] is True


def test_a_machine_without_a_compiler_refuses_it_in_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UsageError, match=r"--compile needs a C\+\+ compiler, and none of g\+\+, .* is here"):
        check_compiler(torch.device("cpu"))
    monkeypatch.setenv("CXX", "mine")
    with pytest.raises(UsageError, match="none of mine is here"):
        check_compiler(torch.device("cpu"))


def test_a_gpu_without_triton_refuses_it_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install triton"):
        check_compiler(torch.device("cuda"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_network_is_the_same_to_rounding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        check_compiler(torch.device("cpu"))
    except UsageError as problem:
        pytest.skip(str(problem))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    unet = tiny_unet(
        layers_per_block=1,
        block_out_channels=[32],
        down_block_types=["CrossAttnDownBlock2D"],
        mid_block_type=None,
        up_block_types=["UpBlock2D"],
    )
    given = torch.randn(2, 4, 8, 8), unet.embed_time(torch.tensor([900, 10])), unet.context(torch.randn(2, 7, 32))
    with torch.no_grad():
        plain = unet(*given)
        compile_blocks(unet)
        torch.testing.assert_close(unet(*given), plain, rtol=1e-4, atol=1e-5)
        for parameter in unet.parameters():  # as adapters do
            parameter.mul_(1.01)
        changed = unet(*given)
    assert not torch.allclose(changed, plain, rtol=1e-3)
    assert any(os.scandir(tmp_path)), "the compiler's cache"
