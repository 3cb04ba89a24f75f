"""The JAX pipeline: edits on TPUs and on several devices at once. Needs `pip install 'sdedit-cli[jax]'`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .devices import replicate as replicate
    from .devices import shard as shard
    from .output import FlaxStableDiffusionPipelineOutput as FlaxStableDiffusionPipelineOutput
    from .pipeline import FlaxStableDiffusionImg2ImgPipeline as FlaxStableDiffusionImg2ImgPipeline

_HOMES = {
    "FlaxStableDiffusionImg2ImgPipeline": "pipeline",
    "FlaxStableDiffusionPipelineOutput": "output",
    "replicate": "devices",
    "shard": "devices",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.util import find_spec

    if find_spec("jax") is None:
        from ..errors import UsageError

        raise UsageError("JAX is not installed; pip install 'sdedit-cli[jax]'")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
