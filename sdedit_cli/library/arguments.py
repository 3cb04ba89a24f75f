"""The arguments of a pipeline call, checked before any work: one error, in words that name the argument."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from inspect import signature
from numbers import Integral, Real
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ..adapters.strengths import one_or_more
from ..engine.image import OUTPUT_TYPES
from ..engine.tensors import check_tensor
from ..errors import UsageError, WrongTypeError, did_you_mean

_WORDS_FOR_ARRAYS = ("np.array", "numpy")
"""Other words for the output type 'np'."""
CALLBACK_TENSORS = ("latents", "prompt_embeds", "negative_prompt_embeds")
_RETIRED = {
    "callback": "callback_on_step_end",
    "callback_steps": "callback_on_step_end",
    "init_image": "image",
}


def check_retired(kwargs: Collection[str], call: Callable[..., Any]) -> None:
    """Raises UsageError for names that `call` does not take: with the replacement of a retired one, else with the
    one of its own that is near."""
    for name in kwargs:
        if name in _RETIRED:
            raise UsageError(f"`{name}`: it is retired; use `{_RETIRED[name]}`")
        raise UsageError(f"`{name}`: no such argument{did_you_mean(name, list(signature(call).parameters))}")


def check_numbers(strength: float, steps: int | None, images_per_prompt: int, *, steps_needed: bool = True) -> None:
    """Raises WrongTypeError for what is no number, UsageError for one out of range."""
    check_whole("num_inference_steps", steps)
    if isinstance(steps, bool):
        raise WrongTypeError(f"num_inference_steps is {steps}; expected a whole number")
    if not 0 <= strength <= 1:
        raise UsageError(f"strength is {strength}; expected 0..1 (how much of the picture may change)")
    if steps_needed and (steps is None or steps < 1):
        raise UsageError(f"num_inference_steps is {steps}; expected 1 or more")
    checked_count(images_per_prompt)


def checked_output_type(value: object) -> str:
    """One of OUTPUT_TYPES, 'np' for its other words and for None. Raises UsageError for anything else."""
    found = "np" if value is None or value in _WORDS_FOR_ARRAYS else value
    if not isinstance(found, str) or found not in OUTPUT_TYPES:
        hint = did_you_mean(str(value), OUTPUT_TYPES)
        raise UsageError(f"output_type is {value!r}; expected one of {', '.join(OUTPUT_TYPES)}{hint}")
    return found


def as_number(name: str, value: object, meaning: str) -> float:
    """The number, also where a tensor or an array holds it. Raises WrongTypeError for what is none, UsageError for one
    that is not finite."""
    plain = value
    if isinstance(value, (Tensor, np.ndarray)) and len(flat := cast("Tensor", value).reshape(-1)) == 1:
        plain = flat.item()
    if not isinstance(plain, Real):
        raise WrongTypeError(f"{name} is {value!r}; expected a number{meaning}")
    if not math.isfinite(plain):
        raise UsageError(f"{name} is {value!r}; expected a finite number{meaning}")
    return float(plain)


def check_whole(name: str, value: object) -> None:
    """Raises WrongTypeError for what is neither a whole number nor None."""
    if value is not None and not isinstance(value, Integral):
        raise WrongTypeError(f"{name} is {value!r}; expected a whole number")


def checked_count(images_per_prompt: int) -> int:
    """The number of pictures of each prompt. Raises WrongTypeError for what is no whole number, UsageError below 1."""
    check_whole("num_images_per_prompt", images_per_prompt)
    if images_per_prompt < 1:
        raise UsageError(f"num_images_per_prompt is {images_per_prompt}; expected 1 or more")
    return int(images_per_prompt)


def check_prompts(
    prompt: object, negative: object, prompt_embeds: Tensor | None, negative_embeds: Tensor | None, guided: bool
) -> None:
    """Raises UsageError when a prompt is given twice or not at all, WrongTypeError when types do not pair up."""
    if prompt is None and prompt_embeds is None:
        raise UsageError("give `prompt` or `prompt_embeds`")
    for name, text, embeds in (("prompt", prompt, prompt_embeds), ("negative_prompt", negative, negative_embeds)):
        if text is not None and embeds is not None:
            raise UsageError(f"give `{name}` or `{name}_embeds`, not both")
        if text is not None and not isinstance(text, (str, list, tuple)):
            raise WrongTypeError(f"`{name}` is a {type(text).__name__}; expected a string or a list of strings")
        listed = one_or_more(text)
        if text is not None and not (listed and all(isinstance(one, str) for one in listed)):
            raise UsageError(f"`{name}` is {text!r}; expected a string or a list with one or more strings")
        if embeds is not None and not isinstance(cast("object", embeds), Tensor):
            raise WrongTypeError(f"`{name}_embeds` is a {type(embeds).__name__}; expected a tensor")
        if embeds is None:
            continue
        check_tensor(f"`{name}_embeds`", embeds)
        if embeds.ndim != 3:
            raise UsageError(f"`{name}_embeds` has shape {tuple(embeds.shape)}; expected (prompts, tokens, channels)")
    if guided and prompt is not None and negative is not None and isinstance(prompt, str) != isinstance(negative, str):
        raise WrongTypeError(
            f"`negative_prompt` is a {type(negative).__name__} and `prompt` a {type(prompt).__name__}; "
            "give two strings or two lists"
        )
    if prompt_embeds is not None and negative_embeds is not None and prompt_embeds.shape != negative_embeds.shape:
        raise UsageError(
            f"`prompt_embeds` {tuple(prompt_embeds.shape)} and `negative_prompt_embeds` "
            f"{tuple(negative_embeds.shape)} need one shape"
        )


def paired(negative: str | Sequence[str] | None, count: int) -> list[str]:
    """A negative text for each of so many prompts, '' where none is given. Raises UsageError for another number."""
    if negative is None or isinstance(negative, str):
        return [negative or ""] * count
    if len(negative) != count:
        raise UsageError(f"`negative_prompt` has {len(negative)} texts for {count} prompts; give one for each")
    return list(negative)


def check_pair(positive_BTC: Tensor, negative_BTC: Tensor) -> None:
    """Raises UsageError unless the two embeddings have one shape: guidance pairs them row by row."""
    if positive_BTC.shape != negative_BTC.shape:
        raise UsageError(
            f"the prompts' embeddings are {tuple(positive_BTC.shape)} and the negative ones "
            f"{tuple(negative_BTC.shape)}; expected one shape"
        )


def check_width(embeds_RTC: Tensor, width: int | tuple[int, ...]) -> None:
    """Raises UsageError for embeddings of another width than a UNet reads."""
    found, wanted = embeds_RTC.shape[-1], {width} if isinstance(width, int) else set(width)
    if wanted != {found}:
        listed = " and ".join(map(str, sorted(wanted)))
        raise UsageError(f"the prompts' embeddings have {found} channels, and the UNet of this pipeline reads {listed}")


def check_generator(generator: object) -> None:
    """Raises WrongTypeError for what is neither a torch.Generator, a list of them, nor None."""
    if generator is not None and not all(isinstance(one, torch.Generator) for one in one_or_more(generator)):
        raise WrongTypeError(f"generator is {generator!r}; expected a torch.Generator, or a list with one a picture")


def check_steps(timesteps: object, sigmas: object) -> None:
    """Raises UsageError when the schedule is given twice."""
    if timesteps is not None and sigmas is not None:
        raise UsageError("give `timesteps` or `sigmas`, not both")


def check_callback(callback: object, names: object) -> tuple[str, ...]:
    """The names of the tensors that it is shown. Raises WrongTypeError for what cannot be called and for what are no
    names, UsageError for tensors that it cannot ask for."""
    if callback is not None and not callable(callback):
        raise WrongTypeError(f"callback_on_step_end is a {type(callback).__name__}; expected a function")
    asked = getattr(callback, "tensor_inputs", names)
    if isinstance(asked, str) or not isinstance(asked or (), Iterable):
        raise WrongTypeError(f"callback_on_step_end_tensor_inputs is {asked!r}; expected a list such as ['latents']")
    listed = tuple(cast("Iterable[str]", asked or ()))
    check_callback_tensors(listed)
    return listed


def check_callback_tensors(names: Sequence[str], *, returned: bool = False) -> None:
    """Raises UsageError for tensors that a callback cannot ask for or give back."""
    unknown = [name for name in names if name not in CALLBACK_TENSORS]
    if unknown:
        where = "the callback returned" if returned else "callback_on_step_end_tensor_inputs has"
        raise UsageError(f"{where} {', '.join(map(repr, unknown))}; expected some of {', '.join(CALLBACK_TENSORS)}")
