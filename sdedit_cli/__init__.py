"""sdedit: edit pictures with Stable Diffusion checkpoints by the method of SDEdit (arXiv 2108.01073).

Names are imported where they are first used (PEP 562): `import sdedit_cli` costs neither torch nor transformers.
The scheduler classes of the reference (DDIMScheduler, EulerDiscreteScheduler, ...) are names of it too.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .jaxport import FlaxStableDiffusionImg2ImgPipeline as FlaxStableDiffusionImg2ImgPipeline
    from .jaxport import FlaxStableDiffusionPipelineOutput as FlaxStableDiffusionPipelineOutput
    from .library.output import StableDiffusionPipelineOutput as StableDiffusionPipelineOutput
    from .library.pipeline import StableDiffusionImg2ImgPipeline as StableDiffusionImg2ImgPipeline
    from .noise import Scheduler as Scheduler
    from .options import Edit as Edit

__version__ = "0.1.0"

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
    if name == "__all__":
        # For `import *`, which finds each: those that need JAX, which may not be there, are had by their names.
        return [name for name in __dir__() if _HOMES.get(name) != ".jaxport"]
    # Rooms are asked for here before they are found beside: those must not cost the table of schedulers.
    if not name.islower() and name in _scheduler_names():
        from .library.schedulers import CLASSES

        return CLASSES[name]
    raise AttributeError(f"module 'sdedit_cli' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(("__version__", *_HOMES, *_scheduler_names()))


def _scheduler_names() -> tuple[str, ...]:
    from .noise.samplers import CLASS_NAMES

    return tuple(CLASS_NAMES)
