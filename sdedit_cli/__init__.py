"""sdedit: edit pictures with Stable Diffusion checkpoints by the method of SDEdit (arXiv 2108.01073).

Names are imported where they are first used (PEP 562): `import sdedit_cli` costs neither torch nor transformers.
The scheduler classes of the reference (DDIMScheduler, EulerDiscreteScheduler, ...) are names of it too.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .jaxport import FlaxStableDiffusionImg2ImgPipeline, FlaxStableDiffusionPipelineOutput
    from .library.output import StableDiffusionPipelineOutput
    from .library.pipeline import StableDiffusionImg2ImgPipeline
    from .noise import Scheduler
    from .options import Edit

__version__ = "0.1.0"
__all__ = [
    "Edit",
    "FlaxStableDiffusionImg2ImgPipeline",
    "FlaxStableDiffusionPipelineOutput",
    "Scheduler",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionPipelineOutput",
    "__version__",
]

_HOMES = {
    "Edit": ".options",
    "FlaxStableDiffusionImg2ImgPipeline": ".jaxport",
    "FlaxStableDiffusionPipelineOutput": ".jaxport",
    "Scheduler": ".noise",
    "StableDiffusionImg2ImgPipeline": ".library.pipeline",
    "StableDiffusionPipelineOutput": ".library.output",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    # Rooms are asked for here before they are found beside: those must not cost the table of schedulers.
    if not name.islower() and name in _scheduler_names():
        from .library.schedulers import CLASSES

        return CLASSES[name]
    raise AttributeError(f"module 'sdedit_cli' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted((*__all__, *_scheduler_names()))


def _scheduler_names() -> tuple[str, ...]:
    from .noise.samplers import CLASS_NAMES

    return tuple(CLASS_NAMES)
