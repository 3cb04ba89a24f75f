"""The arguments of image prompts, checked before any work: what fits how many adapters, pictures and prompts.

P pictures of an adapter, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import Tensor

from ..adapters.ip_adapter import IPAdapter
from ..adapters.strengths import one_or_more
from ..engine.tensors import check_tensor
from ..errors import UsageError, WrongTypeError, warn

MASKS = "ip_adapter_masks"


def without_masks(cross_attention_kwargs: Mapping[str, Any] | None) -> tuple[dict[str, Any] | None, Any]:
    """The other keywords, and the masks of image prompts. Raises WrongTypeError for what is no dict."""
    if cross_attention_kwargs is not None and not isinstance(cast("object", cross_attention_kwargs), Mapping):
        kind = type(cross_attention_kwargs).__name__
        raise WrongTypeError(f"`cross_attention_kwargs` is a {kind}; expected a dict, such as {{'scale': 0.5}}")
    asked = dict(cross_attention_kwargs or {})
    masks = asked.pop(MASKS, None)
    return asked or None, masks


def paired(source: Any, subfolder: Any, weight_name: Any) -> tuple[list[Any], list[Any], list[Any]]:
    """Lists of one length: what is one of several is meant for all of them."""
    given = [one_or_more(value) for value in (source, subfolder, weight_name)]
    count = max(map(len, given))
    for name, value in zip(("the source", "subfolder", "weight_name"), given, strict=True):
        if len(value) not in (1, count):
            raise UsageError(f"{name} has {len(value)} entries for {count} IP-Adapters; give one for each")
    first, second, third = (value * count if len(value) == 1 else value for value in given)
    return first, second, third


def check_embeds(embeds: Any, adapter: IPAdapter, guided: bool) -> None:
    name = "`ip_adapter_image_embeds`"
    if not isinstance(embeds, Tensor):
        raise WrongTypeError(f"{name} holds a {type(embeds).__name__}; expected tensors")
    check_tensor(name, embeds)
    expected = 4 if adapter.variant.states else 3
    if embeds.ndim != expected or embeds.shape[-1] != adapter.features:
        shape = "(rows, pictures, states, " if adapter.variant.states else "(rows, pictures, "
        raise UsageError(
            f"{name} has the shape {tuple(embeds.shape)}; the {adapter.variant.words} adapter "
            f"{adapter.path.name} takes {shape}{adapter.features})"
        )
    if guided and len(embeds) % 2:
        raise UsageError(f"{name} has {len(embeds)} rows; with guidance it needs the negative ones first, then as many")


def spread(embeds: Tensor, prompts: int, count: int) -> Tensor:
    """One row a picture of the call: of one for all of them, one a prompt, or one a picture. Raises UsageError."""
    if len(embeds) not in (1, prompts, count):
        raise UsageError(f"`ip_adapter_image_embeds` has {len(embeds)} rows for {prompts} prompts; give one for each")
    return embeds.repeat_interleave(count // len(embeds), dim=0)


def masks_of(masks: Any, pictures: Sequence[int], size: tuple[int, int]) -> list[Tensor | None]:
    """Masks (P, H, W) of each adapter, or None for one that counts everywhere; those that are stretched to latents of
    `size` (height, width) are warned of. Raises UsageError where they do not fit the pictures."""
    if masks is None:
        return [None] * len(pictures)
    listed = list(masks[:, None]) if isinstance(masks, Tensor) and masks.ndim == 4 else masks
    shape = "[1, pictures, height, width]"
    if not isinstance(listed, (list, tuple)) or len(cast("list[Any]", listed)) != len(pictures):
        raise UsageError(f"`{MASKS}` needs a list of {len(pictures)} tensors {shape}, one for each IP-Adapter")
    for one, count in zip(cast("list[Any]", listed), pictures, strict=True):
        if one is None:
            continue
        if not isinstance(one, Tensor) or one.ndim != 4 or one.shape[:2] != (1, count) or not one.numel():
            found: Any = tuple(one.shape) if isinstance(one, Tensor) else type(one).__name__
            raise UsageError(f"`{MASKS}` holds {found}; expected a tensor {shape} for {count} pictures")
    found = [None if one is None else one[0] for one in cast("list[Tensor | None]", listed)]
    for one in found:
        if one is not None and _is_stretched(one.shape[-2:], size):
            (height, width), shape = size, " x ".join(map(str, reversed(one.shape[-2:])))
            warn(
                f"`{MASKS}` has a mask of {shape}, which is stretched to the picture's {width} x {height} latents; "
                "give masks of its width and height"
            )
    return found


def _is_stretched(mask: Sequence[int], size: tuple[int, int]) -> bool:
    """Whether a mask (height, width) has another shape than latents, by more than sides that are rounded explain."""
    (height, width), (rows, columns) = mask, size
    return abs(height * columns / width - rows) >= 1 and abs(width * rows / height - columns) >= 1
