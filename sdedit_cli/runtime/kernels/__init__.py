"""Operations of a model that are one kernel on CUDA, written in Triton; each has a plain twin in `nn.ops`.

Triton is imported when a model is given its kernels, and by nothing else.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from ...nn.ops import Ops

HOMES = {
    "group_norm": "group_norm",
    "group_norm_silu": "group_norm",
    "layer_norm": "layer_norm",
    "add_layer_norm": "layer_norm",
    "geglu": "elementwise",
    "residual": "elementwise",
}
"""The operations that have a kernel, and the module of each."""


def are_there() -> bool:
    """Whether Triton is installed, without which there are no kernels."""
    return find_spec("triton") is not None


def put_into(ops: Ops) -> None:
    """Has a model compute with the kernels; its convolutions then want their channels last."""
    for name, home in HOMES.items():
        setattr(ops, name, getattr(import_module(f"{__name__}.{home}"), name))
    ops.channels_last = True


def take_out(ops: Ops) -> None:
    """Has a model compute with the plain twins."""
    plain = Ops()
    for name in HOMES:
        setattr(ops, name, getattr(plain, name))
    ops.channels_last = False
