"""torch's attention by the backend that was fastest on this machine for the shape, measured when a shape first comes.

What was chosen is a table of plain texts, so that whoever may write files can keep it: the choice then stays the same
from run to run, and with it the last bits of pictures.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..nn.ops import attention

BACKENDS = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}
AS_TORCH_LIKES = "torch"
"""No backend is forced: none of ours ran, or none was faster."""
_CALLS, _WARM = 10, 3
_WORTH_IT = 0.97  # of the time that torch's own choice takes

Clock = Callable[[Callable[[], Tensor]], float]


def seconds_on_cuda(work: Callable[[], Tensor]) -> float:
    """Seconds of a call, the median of some. Raises RuntimeError when it cannot be done."""
    for _ in range(_WARM):
        work()
    torch.cuda.synchronize()
    took: list[float] = []
    for _ in range(_CALLS):
        begin = time.perf_counter()
        work()
        torch.cuda.synchronize()
        took.append(time.perf_counter() - begin)
    return sorted(took)[_CALLS // 2]


@dataclass
class ChosenAttention:
    """An entry for `Ops.attention`. `table`: the name of a backend by `key_of`. `clock` says how long a call takes."""

    kind: str = "cuda"
    clock: Clock = seconds_on_cuda
    table: dict[str, str] = field(default_factory=dict[str, str])

    def __deepcopy__(self, memo: object) -> ChosenAttention:
        return self  # what a machine is good at concerns all models

    def __reduce__(self) -> Any:
        return "CHOSEN" if self is CHOSEN else super().__reduce__()  # by name, and so that of the process

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __call__(self, q_BNTD: Tensor, k_BNSD: Tensor, v_BNSD: Tensor) -> Tensor:
        if q_BNTD.device.type != self.kind or torch.is_grad_enabled():
            return attention(q_BNTD, k_BNSD, v_BNSD)
        key = key_of(q_BNTD, k_BNSD)
        name = self.table.get(key)
        if name is None and not _is_captured(q_BNTD):
            name = self.table[key] = self._fastest(q_BNTD, k_BNSD, v_BNSD)
        return _by(name or AS_TORCH_LIKES, q_BNTD, k_BNSD, v_BNSD)

    def _fastest(self, q_BNTD: Tensor, k_BNSD: Tensor, v_BNSD: Tensor) -> str:
        usual = self.clock(lambda: _by(AS_TORCH_LIKES, q_BNTD, k_BNSD, v_BNSD))
        best, least = AS_TORCH_LIKES, usual * _WORTH_IT
        for name in BACKENDS:
            with contextlib.suppress(RuntimeError):
                took = self.clock(lambda name=name: _by(name, q_BNTD, k_BNSD, v_BNSD))
                if took < least:
                    best, least = name, took
        return best


def key_of(q_BNTD: Tensor, k_BNSD: Tensor) -> str:
    """Device, versions, precision and shape, as one text."""
    batch, heads, queries, width = q_BNTD.shape
    where = torch.cuda.get_device_name(q_BNTD.device) if q_BNTD.is_cuda else q_BNTD.device.type
    how = f"torch {torch.__version__}, cuda {torch.version.cuda}, cudnn {torch.backends.cudnn.version()}"
    shape = f"{batch} x {heads} heads x {queries} queries x {k_BNSD.shape[2]} keys x {width}"
    return f"{where}, {how}, {str(q_BNTD.dtype).removeprefix('torch.')}, {shape}"


def _by(name: str, q_BNTD: Tensor, k_BNSD: Tensor, v_BNSD: Tensor) -> Tensor:
    if name not in BACKENDS:  # a table of a later release may know others
        return F.scaled_dot_product_attention(q_BNTD, k_BNSD, v_BNSD)
    with sdpa_kernel(BACKENDS[name]):
        return F.scaled_dot_product_attention(q_BNTD, k_BNSD, v_BNSD)


def _is_captured(x: Tensor) -> bool:
    return x.is_cuda and torch.cuda.is_current_stream_capturing()


CHOSEN = ChosenAttention()
"""That of this process, for all of its models."""
