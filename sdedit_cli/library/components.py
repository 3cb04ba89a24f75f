"""The components that a pipeline is made of: which kinds fit, and what is done to those that nearly do."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, cast

import torch

from ..engine.components import NAMES, Components
from ..errors import WrongTypeError
from ..nn import AutoencoderKL, CLIPTextModel, TinyAutoencoder, UNet2DCondition
from ..noise import Scheduler
from ..runtime.dtype import DTYPES
from ..text import Tokenizer
from .schedulers import NamedScheduler, named

_KINDS: Mapping[str, tuple[type, ...]] = {
    "vae": (AutoencoderKL, TinyAutoencoder),
    "text_encoder": (CLIPTextModel, type(None)),
    "tokenizer": (Tokenizer, type(None)),
    "unet": (UNet2DCondition,),
}


def asked_for(pipeline: type, components: Mapping[str, Any]) -> dict[str, Any]:
    """The components that a pipeline's constructor is called with: None for one that a model lacks and a subclass, as
    the reference itself, has no default for."""
    parameters = inspect.signature(pipeline).parameters
    lacking = [name for name in NAMES if name not in components and name in parameters]
    return {name: None for name in lacking if parameters[name].default is inspect.Parameter.empty} | dict(components)


def check_components(components: Mapping[str, Any]) -> None:
    """Raises WrongTypeError for a component of another library, UsageError as `Components` does."""
    for name, kinds in _KINDS.items():
        # A compiled network stands around the one that it was.
        value: object = getattr(components[name], "_orig_mod", components[name])
        if not isinstance(value, kinds):
            raise WrongTypeError(
                f"`{name}` is a {type(value).__module__}.{type(value).__name__}; expected sdedit's own "
                f"{kinds[0].__name__}, such as the `{name}` of another pipeline (`pipe.{name}`)"
            )
    Components(**components)


def as_scheduler(value: object) -> NamedScheduler:
    """A Scheduler of the class that its config names, also of another library's scheduler.

    Raises WrongTypeError for anything else.
    """
    if isinstance(value, Scheduler):
        return value if isinstance(value, NamedScheduler) else named(value)
    config = getattr(value, "config", None)
    if isinstance(config, Mapping):
        said = cast("Mapping[str, Any]", config)
        return named(Scheduler.from_config({**said, "_class_name": type(value).__name__}))
    raise WrongTypeError(
        f"`scheduler` is a {type(value).__name__}; expected a Scheduler, such as Scheduler.named('euler')"
    )


_COMPUTE = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def as_dtype(value: object, name: str = "torch_dtype") -> torch.dtype:
    """float32 for None, a torch dtype that networks compute in, or one by its name. Raises WrongTypeError for anything
    else, which is called `name`."""
    if value is None:
        return torch.float32
    dtype = DTYPES.get(value) if isinstance(value, str) else value
    if not isinstance(dtype, torch.dtype) or dtype not in _COMPUTE:
        expected = ", ".join((*map(str, _COMPUTE), *DTYPES))
        raise WrongTypeError(f"{name} is {value!r}; expected one of {expected}")
    return dtype
