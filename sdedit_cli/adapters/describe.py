"""What a file of an adapter is, as plain values for people and programs; of any family, and however odd the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from ..errors import ModelError
from ..weights.formats.source import WeightSource
from .architecture import Architecture
from .blocks import block_of, place
from .deltas import Kind, Misfit, kinds_of, weight_delta
from .dialects import Module, dialect_of, family_of
from .kinds.leaves import exact_scale, is_finite, matrix, rank_of, same_rank
from .lora import Patch, grouped, no_adapter, patch_of, unread
from .lowrank import norm_of_product
from .open import Header, adapter_keys
from .recognise import recognised
from .write import with_alpha

N = TypeVar("N", int, float)
_LARGEST_GRAM = 1 << 24  # elements: factors of a rank that no adapter has are not multiplied out
_SECOND = ("lora_te2_", "text_encoder_2_", "text_encoders_clip_g_")
_TRANSFORMER = ("double_blocks", "single_blocks", "joint_blocks", "single_transformer_blocks", "lora_transformer_")
_TEXT = ("lora_te", "text_encoder", "te_", "lycoris_te", "oft_te")


@dataclass(frozen=True)
class Block:
    """The modules of a part of the model: their ranks and alphas, and the norm of what they add at strength 1, which
    is None where it depends on the model's weights."""

    component: str
    name: str
    modules: int
    ranks: tuple[int, ...]
    alphas: tuple[float, ...]
    norm: float | None


@dataclass(frozen=True)
class Description:
    """What a file is. `family` is '' where nothing tells it; `matched` counts modules by component, with those that the
    model has where it is known; `problems` are modules that are no whole kind, `unmatched` keys that fit nowhere."""

    family: str
    works: bool
    dialect: str
    dtypes: tuple[str, ...]
    kinds: Mapping[str, int]
    matched: Mapping[str, tuple[int, int | None]]
    ranks: Mapping[int, int]
    alphas: Mapping[float, int]
    blocks: tuple[Block, ...]
    unmatched: tuple[str, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class _Seen:
    """A module as the file has it."""

    component: str
    block: str
    kinds: tuple[Kind, ...]
    rank: int | None
    alpha: float | None
    norm: float | None


def describe(source: WeightSource, header: Header, architecture: Architecture | None) -> Description:
    """Everything that can be said of a file without its model. Raises ModelError for a file that is no adapter."""
    keys = adapter_keys(source.names())
    if architecture is not None:
        leaves, unmatched = grouped(source, architecture.names.get)
    else:
        leaves, unmatched = grouped(source, lambda name: (_component(name), name))
    found = recognised(source)
    if not leaves or (found is not None and found.type != "lora"):
        raise ModelError(f"{source.path}: {no_adapter(source)}")
    seen: list[_Seen] = []
    problems: list[str] = []
    for module, own in leaves.items():
        tensors = {leaf: source.get(key) for leaf, key in own.items()}
        try:
            seen.append(_look(module, patch_of(tensors, header, module), architecture))
        except (Misfit, RuntimeError) as problem:
            problems.append(f"{'.'.join(module)}: {str(problem).splitlines()[0]}")
    parts = Counter(component for component, _ in sorted(leaves, key=lambda module: _unet_first(module[0])))
    return Description(
        family=architecture.title if architecture else family_of({key: source.shape(key) for key in keys}),
        works=architecture is not None,
        dialect=dialect_of(keys),
        dtypes=tuple(
            str(dtype).removeprefix("torch.") for dtype, _ in Counter(source.dtype(key) for key in keys).most_common()
        ),
        kinds=dict(Counter(kind.words for one in seen for kind in one.kinds)),
        matched={
            part: (count, len(architecture.modules(part)) if architecture else None) for part, count in parts.items()
        },
        ranks=_counted(one.rank for one in seen),
        alphas=_counted(one.alpha for one in seen),
        blocks=tuple(_blocks(seen)),
        unmatched=tuple(unmatched),
        problems=tuple(problems),
    )


def _counted(values: Iterator[N | None]) -> dict[N, int]:
    """How often each value is there, the most frequent first."""
    counts = Counter(value for value in values if value is not None)
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def _look(module: Module, patch: Patch, architecture: Architecture | None) -> _Seen:
    kinds = kinds_of(patch.leaves)
    for leaf, tensor in patch.leaves.items():
        if problem := unread(tensor, leaf):
            raise Misfit(f"{leaf} {problem}")
    alpha = with_alpha(patch).leaves.get("alpha")
    if alpha is not None and alpha.numel() != 1:
        raise Misfit(f"alpha has {alpha.numel()} numbers, one is expected")
    if alpha is not None and not is_finite(alpha):
        raise Misfit("its alpha is not finite")
    shape = architecture.shape(module) if architecture else None
    norm = None if any(kind.of_base for kind in kinds) else _norm(patch, shape)
    if norm is not None and not norm < float("inf"):
        raise Misfit("has numbers that are not finite")
    return _Seen(
        module[0],
        block_of(module[1]),
        kinds,
        rank_of(patch.leaves),
        None if alpha is None else float(alpha),
        norm,
    )


def _norm(patch: Patch, shape: torch.Size | None) -> float | None:
    """The norm of the change of the weight at strength 1; None where it needs a shape that is not known."""
    leaves: Mapping[str, Tensor] = patch.leaves
    if set(leaves) <= {"down", "up", "alpha", "scale", "up_bias"} and "down" in leaves:
        up, down = matrix(leaves, "up"), matrix(leaves, "down")
        same_rank(up=up.shape[1], down=down.shape[0])
        if up.shape[1] ** 2 <= _LARGEST_GRAM:
            return norm_of_product(up, down) * abs(exact_scale(leaves, down.shape[0], patch.scaling))
    if shape is None:
        return None
    made = weight_delta(leaves, torch.zeros(shape), patch.scaling)
    return None if made is None else float(made.double().square().sum()) ** 0.5


def _component(name: str) -> str:
    """The component of a module of a model that is not known, by how its name begins."""
    if name.startswith(_SECOND):
        return "text_encoder_2"
    if name.startswith(_TEXT):
        return "text_encoder"
    return "transformer" if any(mark in name for mark in _TRANSFORMER) else "unet"


def _unet_first(component: str) -> tuple[bool, str]:
    return component != "unet", component


def _blocks(seen: Sequence[_Seen]) -> Iterator[Block]:
    groups: dict[tuple[str, str], list[_Seen]] = {}
    for one in seen:
        groups.setdefault((one.component, one.block), []).append(one)
    for (component, name), own in sorted(groups.items(), key=lambda pair: (_unet_first(pair[0][0]), place(pair[0][1]))):
        norms = [one.norm for one in own if one.norm is not None]
        yield Block(
            component,
            name,
            len(own),
            tuple(sorted({one.rank for one in own if one.rank is not None})),
            tuple(sorted({one.alpha for one in own if one.alpha is not None})),
            sum(norm**2 for norm in norms) ** 0.5 if norms else None,
        )
