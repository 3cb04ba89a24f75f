"""Adapters as the files that programs read: kohya's names, diffusers' with a header, or folders of PEFT.

Kohya's names hold every kind; the other two hold LoRA, with DoRA's magnitudes of the outputs and biases of the upper
factor.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import ModelError, listed
from .deltas import WHOLE_LOKR, Misfit, kinds_of
from .dialects import LEAVES, Module
from .kinds.leaves import Leaves, exact_scale, for_new, rank_of, single, trimmed
from .kinds.lora import thin_factors
from .lora import Adapter, Patch, grouped, patch_of
from .open import CONFIG, HALVES, HEADER, OF_PEFT, open_adapter

Dialect = Literal["kohya", "diffusers", "peft"]
DIALECTS: tuple[Dialect, ...] = ("kohya", "diffusers", "peft")
ShapeOf = Callable[[Module], torch.Size]
# Hashes of the file that was, and what speaks of its alphas: no longer true of the one that is written.
_STALE = ("sshs_model_hash", "sshs_legacy_hash", "modelspec.hash_sha256", HEADER, "format")
_PREFIXES = {"unet": "lora_unet_", "text_encoder": "lora_te_"}
# Of several suffixes that mean a leaf, the first is kohya's own, but for:
_KOHYA: Mapping[str, str] = {
    **{leaf: suffix for suffix, leaf in reversed(list(LEAVES.items()))},
    "up_bias": ".lora_up.bias",
    "ia3_weight": ".weight",
}
_PEFT: Mapping[str, str] = {
    "down": ".lora_A.weight",
    "up": ".lora_B.weight",
    "up_bias": ".lora_B.bias",
    "magnitude": ".lora_magnitude_vector.weight",
}
_HELD = frozenset({"lora", "dora", "lora_bias"})


@dataclass(frozen=True)
class Written:
    """A file to be written: its tensors by key, its metadata, and the config that lies beside it."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    config: Mapping[str, Any] | None = None


def written(adapter: Adapter, to: Dialect, shape_of: ShapeOf) -> dict[str, Written]:
    """The files of an adapter by their places within the target; '' is the target itself.

    Of PEFT the places are folders: '' where one component is changed, else one for each. Raises ModelError, naming
    kinds and modules, for what the dialect cannot hold.
    """
    metadata = {key: value for key, value in adapter.metadata.items() if key not in _STALE}
    if to == "kohya":
        return {"": Written(_kohya(adapter, shape_of), metadata)}
    halves = {
        slot: _Half.of(adapter, slot, to, shape_of) for slot in HALVES if any(m[0] == slot for m in adapter.patches)
    }
    if to == "peft":
        return {
            slot if len(halves) > 1 else "": Written(half.tensors(OF_PEFT), metadata, half.config())
            for slot, half in halves.items()
        }
    tensors = {key: tensor for slot, half in halves.items() for key, tensor in half.tensors(f"{slot}.").items()}
    said = {f"{slot}.{key}": value for slot, half in halves.items() for key, value in half.config().items()}
    return {"": Written(tensors, {**metadata, HEADER: json.dumps(said, sort_keys=True)})}


def with_alpha(patch: Patch) -> Patch:
    """The patch with its alpha as a leaf, whatever said it before: a header, the rank where nothing did, a `scale`."""
    rank = rank_of(patch.leaves)
    if rank is None:
        return patch
    leaves, told = dict(patch.leaves), patch.scaling
    if "scale" in leaves or told.says_strength:
        alpha = exact_scale(leaves, rank, told) * rank
        leaves.pop("scale", None)
        leaves["alpha"] = torch.tensor(alpha, dtype=torch.float32)
    elif "alpha" not in leaves:
        leaves["alpha"] = torch.tensor(float(rank))
    return Patch(leaves)


def tensors_of(path: Path) -> dict[str, Tensor]:
    """The tensors of an adapter's file or folder by their keys, and as tensors beside them the alphas that a header or
    a config says: as a state dict they mean what the file does. Rotations that a config calls PEFT's have its names.

    Raises ModelError for what cannot be read.
    """
    source, header = open_adapter(path)
    tensors = {key: source.get(key) for key in source.names()}
    for flat, own in grouped(source, str)[0].items():
        name = next(iter(own.values()))[: len(flat)]
        try:
            slot = next((slot for slot in HALVES if name.startswith(slot)), HALVES[0])
            module = slot, name.removeprefix(f"{slot}.").removeprefix(OF_PEFT)
            patch = patch_of({leaf: tensors[key] for leaf, key in own.items()}, header, module)
        except Misfit as problem:
            raise ModelError(f"{source.path}: {name}: {problem}") from None
        told = with_alpha(patch).leaves
        if patch.scaling.says_strength and "alpha" in told:
            tensors[own.get("alpha", f"{name}.alpha")] = told["alpha"]
        if "scale" in told and "scale" not in own:
            tensors[f"{name}.scale"] = told["scale"]
        if "oft_R" in told and patch.scaling.of_peft and OF_PEFT not in name:
            tensors.update({OF_PEFT + key: tensors.pop(key) for key in own.values()})
    return tensors


def _kohya(adapter: Adapter, shape_of: ShapeOf) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for (slot, name), patch in adapter.patches.items():
        leaves = dict(with_alpha(patch).leaves)
        if leaves.keys() >= WHOLE_LOKR and "scale" in leaves:  # which readers of kohya's names do not look for there
            first = leaves["lokr_w1"]
            leaves["lokr_w1"] = first.to(for_new(first.dtype)) * single(leaves, "scale")
            del leaves["scale"]
        if "magnitude" in leaves:
            # What PEFT has for the outputs of any layer, kohya has in the dimensions of the weight.
            flat = leaves.pop("magnitude").flatten()
            leaves["dora_scale"] = flat.reshape(-1, *[1] * (len(shape_of((slot, name))) - 1))
        if "oft_R" in leaves and patch.scaling.of_peft and len(shape_of((slot, name))) > 2:
            # Under kohya's names it is OneTrainer's, whose R turns as the Rᵀ of the vectors with the other sign.
            leaves["oft_R"] = (-leaves["oft_R"].float()).to(leaves["oft_R"].dtype)
        module = _PREFIXES[slot] + name.replace(".", "_")
        tensors.update((module + _KOHYA[leaf], tensor) for leaf, tensor in leaves.items())
    return tensors


@dataclass(frozen=True)
class _Half:
    """What an adapter has for one component, as PEFT holds it: patches with factors alone, and their alphas."""

    patches: Mapping[str, Leaves]
    alphas: Mapping[str, float]
    rank_stabilised: bool

    @classmethod
    def of(cls, adapter: Adapter, slot: str, to: Dialect, shape_of: ShapeOf) -> _Half:
        own = {module[1]: patch for module, patch in adapter.patches.items() if module[0] == slot}
        _refuse_others(adapter, own, to)
        stabilised = all(patch.scaling.rank_stabilised for patch in own.values())
        patches = {name: _as_peft(patch.leaves, shape_of((slot, name))) for name, patch in own.items()}
        alphas = {name: _alpha(patch, stabilised) for name, patch in own.items()}
        without = [name for name, leaves in patches.items() if "magnitude" not in leaves]
        if 0 < len(without) < len(patches):
            raise ModelError(
                f"{adapter.path}: {len(without)} of {len(patches)} modules are no DoRA ({listed(without, 2)}); "
                f"{to} can hold it for all modules or none; convert it --to kohya"
            )
        return cls(_with_all_biases(patches), alphas, stabilised)

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        return {
            f"{prefix}{name}{_PEFT[leaf]}": tensor
            for name, leaves in self.patches.items()
            for leaf, tensor in leaves.items()
        }

    def config(self) -> dict[str, Any]:
        """What PEFT's LoraConfig is made of: the commonest rank and alpha, and by module those that differ."""
        ranks = {_named(name): leaves["down"].shape[0] for name, leaves in self.patches.items()}
        alphas = {_named(name): int(a) if a.is_integer() else a for name, a in self.alphas.items()}
        rank, alpha = (Counter(numbers.values()).most_common(1)[0][0] for numbers in (ranks, alphas))
        return {
            "peft_type": "LORA",
            "r": rank,
            "lora_alpha": alpha,
            "rank_pattern": {name: r for name, r in ranks.items() if r != rank},
            "alpha_pattern": {name: a for name, a in alphas.items() if a != alpha},
            "target_modules": sorted(ranks),
            "use_rslora": self.rank_stabilised,
            "use_dora": any("magnitude" in leaves for leaves in self.patches.values()),
            "lora_bias": any("up_bias" in leaves for leaves in self.patches.values()),
            "bias": "none",
            "lora_dropout": 0.0,
            "fan_in_fan_out": False,
            "inference_mode": True,
        }


def _named(name: str) -> str:
    """A module's name as the end of its name in any release of transformers, which dropped the beginning."""
    return name.removeprefix("text_model.")


def _refuse_others(adapter: Adapter, own: Mapping[str, Patch], to: Dialect) -> None:
    for name, patch in own.items():
        others = [kind.words for kind in kinds_of(patch.leaves) if kind.name not in _HELD]
        if others:
            words = ", ".join(others)
            raise ModelError(f"{adapter.path}: {name} is {words}, which {to} cannot hold; convert it --to kohya")
        if "dora_scale" in patch.leaves and trimmed(patch.leaves["dora_scale"].shape) != (patch.leaves["up"].shape[0],):
            raise ModelError(
                f"{adapter.path}: {name} has DoRA's magnitudes of the inputs, which {to} cannot hold; "
                "convert it --to kohya"
            )


def _alpha(patch: Patch, stabilised: bool) -> float:
    if stabilised and patch.scaling.alpha is not None:
        return patch.scaling.alpha
    alpha = float(with_alpha(patch).leaves["alpha"])
    return alpha / patch.leaves["down"].shape[0] ** 0.5 if stabilised else alpha


def _as_peft(leaves: Leaves, shape: torch.Size) -> dict[str, Tensor]:
    """The factors in the dimensions that the layer has: PEFT compares shapes."""
    up, down = thin_factors(leaves, shape)
    found = {"down": down, "up": up}
    if "up_bias" in leaves:
        found["up_bias"] = leaves["up_bias"].flatten()
    ones = [1] * (len(shape) - 2)
    magnitude = leaves.get("magnitude", leaves.get("dora_scale"))
    if magnitude is not None:
        found["magnitude"] = magnitude.reshape(1, -1, *ones) if ones else magnitude.flatten()
    return found


def _with_all_biases(patches: Mapping[str, dict[str, Tensor]]) -> Mapping[str, Leaves]:
    """Where some modules have a bias, PEFT expects one of all: none is zeros."""
    if not any("up_bias" in leaves for leaves in patches.values()):
        return patches
    return {
        name: {"up_bias": leaves["up"].new_zeros(leaves["up"].shape[0]), **leaves} for name, leaves in patches.items()
    }


def peft_files(place: str) -> tuple[str, str]:
    """The names of the weights and of the config of PEFT in that place of a target."""
    start = f"{place}/" if place else ""
    return f"{start}adapter_model.safetensors", start + CONFIG
