"""`torch.compile` of the blocks that a UNet repeats: minutes once, for long batches.

Regions are compiled and not the whole: equal blocks share their code, and what it is made of is kept in a folder, where
a later run finds it.
"""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch

from ..errors import UsageError
from ..nn import UNet2DCondition
from ..nn.attention import Transformer2D
from ..nn.layers import Resnet
from . import kernels

_REPEATED = (Transformer2D, Resnet)
_COMPILERS = ("g++", "clang++", "c++", "cl")
_FOLDER = "TORCHINDUCTOR_CACHE_DIR"
# A block is compiled anew for each shape and each layout that it meets; beyond so many it would run uncompiled.
_MOST_SHAPES = 64


def check_compiler(device: torch.device) -> None:
    """Raises UsageError where nothing can be compiled for the device, in words that say what is missing."""
    if not _is_supported():
        raise UsageError("--compile: torch cannot compile on this system or Python; leave it out")
    if device.type == "cuda" and find_spec("triton") is None:
        raise UsageError("--compile needs triton for a GPU: pip install triton, or leave it out")
    chosen = os.environ.get("CXX" if device.type == "cpu" else "CC")
    names = [chosen] if chosen else [*_COMPILERS, "gcc", "clang", "cc"]
    if not any(shutil.which(name) for name in names):
        raise UsageError(f"--compile needs a C++ compiler, and none of {', '.join(names)} is here; leave it out")


def compile_blocks(unet: UNet2DCondition) -> None:
    """Has the repeated blocks of a UNet compiled when they first run, for the shapes that they then see.

    What the compiler makes is kept in the user's cache folder, unless the environment names another.
    """
    folder = _cache_folder()
    if folder is not None:
        os.environ.setdefault(_FOLDER, str(folder))
    from torch import _dynamo

    config: Any = _dynamo.config
    for name in ("recompile_limit", "cache_size_limit"):  # the older name of torch 2.6
        if hasattr(config, name):
            setattr(config, name, max(getattr(config, name), _MOST_SHAPES))
    # The compiler joins plain operations with what is around them, which it cannot do with kernels of others.
    last = unet.ops.channels_last
    kernels.take_out(unet.ops)
    unet.ops.channels_last = last
    for block in unet.modules():
        if isinstance(block, _REPEATED):
            block.compile(dynamic=False)


def _cache_folder() -> Path | None:
    """None for somebody without a home folder."""
    from platformdirs import user_cache_path

    try:
        folder = user_cache_path("sdedit", appauthor=False) / "compiled"
    except RuntimeError:
        return None
    return folder if folder.is_absolute() else None


def _is_supported() -> bool:
    from torch import _dynamo

    return bool(cast(Any, _dynamo).is_dynamo_supported())
