"""What the call of the JAX pipeline takes: checked, and brought into the shapes that programs have.

D devices, B pictures (of each device), T tokens, H W picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import jax.numpy as jnp
import numpy as np
from jax import Array
from PIL import Image

from ..errors import UsageError, WrongTypeError, shown
from ..noise.scheduler import Scheduler
from ..text import Tokenizer

NETWORKS = ("unet", "vae", "text_encoder")
MULTIPLE = 32
"""Of the sides of prepared pictures, as the original has it."""


def token_rows(tokenizer: Tokenizer, prompt: object) -> np.ndarray[Any, Any]:
    """The ids of one or several prompts, [B, T]. Raises WrongTypeError for what is no text."""
    if not isinstance(prompt, (str, list)):
        raise WrongTypeError(f"`prompt` has to be of type `str` or `list` but is {type(prompt)}")
    texts = [prompt] if isinstance(prompt, str) else cast("list[object]", prompt)
    for text in texts:
        if not isinstance(text, str):
            raise WrongTypeError(f"`prompt` has to be a list of `str` but has a {type(text)}")
    if not texts:
        raise UsageError("prompt: the list is empty; give one or more texts")
    return np.array([tokenizer.encode(cast(str, text)).ids for text in texts], dtype=np.int32)


def prepared(image: object) -> Array:
    """One or several pictures in -1..1, [B, 3, H, W]. Raises as `prepare_inputs` says."""
    if not isinstance(image, (Image.Image, list)):
        raise WrongTypeError(f"image has to be of type `PIL.Image.Image` or list but is {type(image)}")
    images = [image] if isinstance(image, Image.Image) else cast("list[object]", image)
    for one in images:
        if not isinstance(one, Image.Image):
            raise WrongTypeError(f"image has to be a list of `PIL.Image.Image` but has a {type(one)}")
    pictures = cast("list[Image.Image]", images)
    sizes = {tuple(side - side % MULTIPLE for side in picture.size) for picture in pictures}
    if len(sizes) != 1:
        raise UsageError(f"image: pictures of one call need one size; got {sorted(sizes) or 'none'}")
    (size,) = sizes
    if not all(size):
        raise UsageError(f"image: a side of {min(pictures[0].size)} px is under {MULTIPLE} px, the least that is taken")
    resized = (one.convert("RGB").resize(size, Image.Resampling.LANCZOS) for one in pictures)  # pyright: ignore[reportArgumentType] -- two numbers
    x_BHWC = np.stack([np.asarray(one, dtype=np.float32) / 255.0 for one in resized])
    return jnp.asarray(2.0 * x_BHWC.transpose(0, 3, 1, 2) - 1.0)


def check_given(prompt_ids: object, params: object, prng_seed: object) -> None:
    """Raises WrongTypeError for texts in place of their ids, for params that no loader made, and for a seed that is no
    key."""
    listed = cast("list[object]", prompt_ids) if isinstance(prompt_ids, (list, tuple)) else [prompt_ids]
    if any(one is None or isinstance(one, str) for one in listed):
        raise WrongTypeError("prompt_ids are no ids of tokens; give what `prepare_inputs` makes of the prompts")
    for name in NETWORKS:
        if not isinstance(params, Mapping) or name not in params:
            raise WrongTypeError(f"params has no '{name}'; give what the loader gave beside the pipeline")
    if prng_seed is None or isinstance(prng_seed, int):
        raise WrongTypeError(f"prng_seed is {prng_seed}; expected a key, such as jax.random.PRNGKey({prng_seed or 0})")


def check_image(ids: Array, image: Array, *, sharded: bool) -> tuple[int, ...]:
    """The shape of the rows: (B,), or (D, B) where they are sharded. Raises UsageError when inputs do not fit."""
    axes = 1 + sharded
    if ids.ndim != axes + 1 or image.ndim != axes + 3:
        shapes = f"prompt_ids {list(ids.shape)} and image {list(image.shape)}"
        if sharded:
            raise UsageError(f"jit=True takes inputs with a leading axis of devices, as `shard` makes it; got {shapes}")
        raise UsageError(f"got {shapes}; expected [B, T] and [B, 3, H, W] (sharded inputs are for jit=True)")
    if ids.shape[:axes] != image.shape[:axes]:
        counts = (" x ".join(map(str, shape[:axes])) for shape in (ids.shape, image.shape))
        raise UsageError("{} prompts for {} pictures; give one for each".format(*counts))
    return ids.shape[:axes]


def check_steps(steps: object) -> None:
    """Raises WrongTypeError for what is no whole number."""
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)):
        raise WrongTypeError(f"num_inference_steps has to be of type `int` but is {type(steps)}")


def check_scheduler(scheduler: object) -> None:
    """Raises WrongTypeError for what is none of ours, such as a name."""
    if not isinstance(scheduler, Scheduler):
        raise WrongTypeError(
            f"scheduler is {shown(repr(scheduler))}; expected one of sdedit_cli, such as Scheduler.named('euler')"
        )


def check_sizes(image: Array, height: int | None, width: int | None, multiple: int) -> None:
    """Raises UsageError for sides that the model cannot take, or that are not those of the picture."""
    sides = image.shape[-2:]
    wanted = (height or sides[0], width or sides[1])
    if any(side % multiple for side in (*wanted, *sides)):
        raise UsageError(f"`height` and `width` have to be divisible by {multiple} but are {wanted[0]} and {wanted[1]}")
    if wanted != sides:
        raise UsageError(
            f"height and width are {wanted[0]} and {wanted[1]}, but the picture has {sides[0]} and {sides[1]}; "
            "resize it before `prepare_inputs`, or leave them out"
        )


def guidance_of(scale: Any, rows: tuple[int, ...], guides: Callable[[float], bool]) -> tuple[bool, Array]:
    """Whether a step reads the negative prompt, and the scales: one for all pictures of a device, or one for each.

    Raises UsageError for an array of another shape.
    """
    if isinstance(scale, str) or scale is None:
        raise WrongTypeError(f"guidance_scale is {scale!r}; expected a number, or an array of them")
    if isinstance(scale, (int, float)):
        return guides(float(scale)), jnp.full((*rows[:-1], 1), float(scale), jnp.float32)
    given = jnp.asarray(scale, jnp.float32)
    if given.size == 1:
        given = given.reshape((1,) * len(rows))
    if given.ndim != len(rows) or any(have not in (1, want) for have, want in zip(given.shape, rows, strict=True)):
        raise UsageError(f"guidance_scale has the shape {list(given.shape)}, expected a number or {list(rows)}")
    return guides(float("nan")), jnp.broadcast_to(given, (*rows[:-1], given.shape[-1]))
