"""The components of the JAX pipeline: networks by their configs (their weights are among the params), and the checker.

Shapes: B pictures, H W picture, C channels, K concepts, D projection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Generic, TypeVar, cast

import jax.numpy as jnp
import numpy as np
from jax import Array

from ..configs.base import from_mapping
from .clip import VisionConfig, look
from .compiling import compiled
from .layers import Arrays, At, linear

C = TypeVar("C")
# One special concept over its threshold makes every threshold this much stricter.
_STRICTER = 0.01


@dataclass(frozen=True)
class Network(Generic[C]):
    """A network as its config describes it."""

    config: C


@dataclass(frozen=True)
class SafetyChecker:
    """The checker that Stable Diffusion 1.x checkpoints bring: a picture's embedding against stored concepts."""

    config: Mapping[str, Any]
    """What its config.json says."""
    vision: VisionConfig = field(init=False)

    def __post_init__(self) -> None:
        said = cast("dict[str, Any]", self.config.get("vision_config") or {})
        object.__setattr__(self, "vision", from_mapping(VisionConfig, said, "safety_checker/config.json"))

    def flags(self, arrays: Arrays, looks_BCHW: np.ndarray[Any, Any]) -> list[bool]:
        """Which pictures, as the feature extractor prepares them, show what shall not be shown."""
        flags_B = _flags(self.vision)(arrays, jnp.asarray(looks_BCHW))
        return [bool(flags_B[b]) for b in range(len(looks_BCHW))]


@cache
def _flags(vision: VisionConfig) -> Callable[[Arrays, Array], Array]:
    return compiled(partial(_judged, vision))


def _judged(vision: VisionConfig, arrays: Arrays, looks_BCHW: Array) -> Array:
    dtype = arrays["concept_embeds"].dtype
    pooled = look(arrays, vision, looks_BCHW.transpose(0, 2, 3, 1).astype(dtype))
    embeds_BD = _unit(linear(At(arrays) / "visual_projection", pooled, bias=False))
    special_BK, concepts_BK = (
        embeds_BD @ _unit(arrays[name]).T - arrays[f"{name}_weights"].astype(jnp.float32)
        for name in ("special_care_embeds", "concept_embeds")
    )
    stricter = jnp.any(jnp.round(special_BK, 3) > 0, axis=1, keepdims=True) * _STRICTER
    return jnp.any(jnp.round(concepts_BK + stricter, 3) > 0, axis=1)


def _unit(x: Array) -> Array:
    wide = x.astype(jnp.float32)
    return wide / jnp.maximum(jnp.sqrt(jnp.square(wide).sum(axis=-1, keepdims=True)), 1e-12)
