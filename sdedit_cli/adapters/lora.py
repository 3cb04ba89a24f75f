"""Files of LoRA and its relatives, read as an Adapter: every module's leaves, nothing multiplied yet."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..configs.clip import CLIPTextConfig
from ..configs.unet import UNetConfig
from ..errors import ModelError, listed, shown
from ..weights.formats.source import WeightSource
from .bundled import read_bundled
from .deltas import READ, WHOLE_LOKR, Misfit, Scaling, kinds_of
from .dialects import Module, family_of, is_unused, module_names, split_key
from .embedding import TextualInversion
from .kinds.leaves import is_finite
from .kinds.lora import product_bound
from .open import Header, adapter_keys, of_state, open_adapter
from .recognise import taken_for

_WHOLE = READ | {"alpha", "scale", "oft_R_scaled"}  # leaves that may hold whole numbers, and truth values

M = TypeVar("M", bound=Hashable)


@dataclass(frozen=True)
class Patch:
    """What an adapter has for one module: leaves by their canonical names, and a scaling that its config says."""

    leaves: Mapping[str, Tensor]
    scaling: Scaling = field(default_factory=Scaling)

    @cached_property
    def reach(self) -> float:
        """Of two factors: no number of their change is larger in magnitude at strength 1 (Cauchy and Schwarz)."""
        return product_bound(self.leaves, self.scaling)

    def on(self, device: torch.device) -> dict[str, Tensor]:
        """The leaves, on a device."""
        return {name: tensor.to(device) for name, tensor in self.leaves.items()}


@dataclass(frozen=True, eq=False)
class Adapter:
    """A file of an adapter. `keys` counts what was used of it, `passed_over` names what was not (with `partial`).

    `words` are embeddings that came with it, `unused` says which of them cannot be used, and why.
    """

    path: Path
    patches: Mapping[Module, Patch]
    keys: int
    passed_over: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    words: tuple[TextualInversion, ...] = ()
    unused: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """What is told of it: its summary, keys that were passed over, and what else is not used."""
        return {"summary": self.summary(), "passed_over": list(self.passed_over), "unused": list(self.unused)}

    def summary(self) -> str:
        """What was matched, for people."""
        slots = sorted({slot for slot, _ in self.patches})
        counts = [f"{sum(slot == s for slot, _ in self.patches)} modules of the {s.replace('_', ' ')}" for s in slots]
        return f"{self.path.name}: {', '.join(self.kinds)}; {self.keys} keys, {' and '.join(counts) or 'nothing here'}"


def read_adapter(
    source: Path | str | Mapping[str, Tensor],
    unet: UNetConfig | None,
    text: CLIPTextConfig | None,
    *,
    partial: bool = False,
) -> Adapter:
    """The adapter in a file, a folder or a state dict, for networks of these configs.

    Raises ModelError, naming keys and families, for keys that fit no module, for half a kind, for numbers that are not
    finite, and for another family's file; with `partial` keys that fit nowhere are passed over and counted.
    """
    if isinstance(source, Mapping):
        opened = of_state(source)
        header = Header.of(opened)
    else:
        opened, header = open_adapter(Path(source))
    adapter = _read(opened, module_names(unet, text), header, unet, partial)
    words, unused = read_bundled(opened, text.hidden_size if text else None)
    return replace(adapter, words=words, unused=unused)


def _read(
    source: WeightSource, names: Mapping[str, Module], header: Header, unet: UNetConfig | None, partial: bool
) -> Adapter:
    leaves, unmatched = grouped(source, names.get)
    keys = adapter_keys(source.names())
    family = family_of({key: source.shape(key) for key in keys})
    if not leaves or (unmatched and not partial):
        raise _misfit(source, unmatched, unet, family, nothing=not leaves)
    _check_family(source, unet, family)
    kinds: dict[str, None] = {}
    patches: dict[Module, Patch] = {}
    for module, own in leaves.items():
        try:
            kinds.update(dict.fromkeys(kind.words for kind in kinds_of(own)))
            patch = patch_of({leaf: _tensor(source, key, leaf) for leaf, key in own.items()}, header, module)
        except Misfit as problem:
            raise ModelError(f"{source.path}: {'.'.join(module)}: {problem}") from None
        for leaf, key in own.items():
            if leaf in patch.leaves:
                _check_finite(source, key, patch.leaves[leaf])
        patches[module] = patch
    used = sum(map(len, leaves.values()))
    return Adapter(source.path, patches, used, tuple(unmatched), tuple(kinds), dict(source.metadata))


def patch_of(tensors: Mapping[str, Tensor], header: Header, module: Module) -> Patch:
    """The patch of a module's tensors, with what a header or a config says of their strength. Raises Misfit."""
    leaves, scaling, whole = dict(tensors), header.scaling(module), header.whole_scale(module)
    # PEFT has a bias of all layers or of none: it may well be zeros, and of a layer that has none itself.
    if "up_bias" in leaves and not bool(leaves["up_bias"].any()):
        del leaves["up_bias"]
    if leaves.keys() >= WHOLE_LOKR:
        if whole is not None:
            leaves["scale"] = torch.tensor(whole)
        # LyCORIS says the size of the matrices, which halves have as infinity; nothing is divided by it.
        if "alpha" in leaves and bool(leaves["alpha"].isinf().any()):
            del leaves["alpha"]
    return Patch(leaves, scaling)


def grouped(source: WeightSource, module_of: Callable[[str], M | None]) -> tuple[dict[M, dict[str, str]], list[str]]:
    """The keys by module and canonical leaf, and those that fit no module, but for what no model has a use for.

    `module_of` knows a module by its name with dots as underscores. Raises ModelError where two keys are the same leaf.
    """
    keys = adapter_keys(source.names())
    present = set(keys)
    leaves: dict[M, dict[str, str]] = {}
    unmatched: list[str] = []
    for key in keys:
        split = split_key(key, present)
        module = module_of(split[0]) if split else None
        if split is None or module is None:
            if not is_unused(key):
                unmatched.append(key)
        elif split[1] in leaves.setdefault(module, {}):
            other = leaves[module][split[1]]
            raise ModelError(f"{source.path}: '{shown(key)}' and '{shown(other)}' are the same of one module")
        else:
            leaves[module][split[1]] = key
    return {module: own for module, own in leaves.items() if own.keys() - {"alpha", "scale"}}, unmatched


def no_adapter(source: WeightSource) -> str:
    """For an error: what a file is of which nothing is an adapter's."""
    return taken_for(source, "lora") or "holds no adapter; expected a LoRA or one of its relatives"


class UnfitError(ModelError):
    """An adapter that does not fit the modules of a model; nothing was changed."""


def _misfit(
    source: WeightSource, unmatched: list[str], unet: UNetConfig | None, family: str, *, nothing: bool
) -> ModelError:
    """The error for keys that fit no module of a model (UnfitError); `nothing`: none of the file does."""
    keys = len(adapter_keys(source.names()))
    other = taken_for(source, "lora") if nothing else ""
    if not keys or other:
        return ModelError(f"{source.path}: {other or no_adapter(source)}")
    if not unmatched:
        return ModelError(f"{source.path}: holds strengths ({listed(adapter_keys(source.names()), 2)}) and no factors")
    foreign = bool(family) and family != _family(unet)
    begin = f"is made for {family}: " if foreign else ""
    # Taking what fits is no cure where nothing does, or what does is of another model.
    partial = "" if foreign or nothing else ", or take what fits with --partial"
    # Where others fit, what ends as no kind's keys do is of a kind that is not read.
    strange = [] if nothing else [key for key in unmatched if split_key(key, frozenset(unmatched)) is None]
    if strange:
        text = f"{len(strange)} of {keys} keys are of no kind of adapter that is read ({listed(strange, 2)})."
        return ModelError(f"{source.path}: {begin}{text}", f"Give a LoRA or one of its relatives{partial}.")
    return UnfitError(
        f"{source.path}: {begin}{len(unmatched)} of {keys} keys fit no module of this model ({listed(unmatched, 2)}).",
        f"Give an adapter of the model's family{partial}.",
    )


def _check_family(source: WeightSource, unet: UNetConfig | None, family: str) -> None:
    """Names of 1.x fit a 2.x model: shapes alone tell."""
    ours = _family(unet)
    if family and ours and family != ours:
        raise ModelError(f"{source.path}: is made for {family}, and this model is {ours}; nothing was changed")


def _family(unet: UNetConfig | None) -> str:
    width: Any = unet.cross_attention_dim if unet else None
    known = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x"}
    return known.get(width, f"for text of width {width}" if isinstance(width, int) else "")


def _tensor(source: WeightSource, key: str, leaf: str) -> Tensor:
    tensor = source.get(key)
    if problem := unread(tensor, leaf):
        raise ModelError(f"{source.path}: '{shown(key)}' {problem}")
    return tensor


def unread(tensor: Tensor, leaf: str) -> str:
    """Why the numbers of a leaf are not read; '' for those that are."""
    if not tensor.is_complex() and (tensor.is_floating_point() or leaf in _WHOLE):
        return ""
    kind = str(tensor.dtype).removeprefix("torch.")
    return f"holds {kind} numbers; expected floating point: those of quantised files are not read"


def _check_finite(source: WeightSource, key: str, tensor: Tensor) -> None:
    if tensor.is_floating_point() and not is_finite(tensor):
        raise ModelError(
            f"{source.path}: '{shown(key)}' has numbers that are not finite: the file is damaged, or its training "
            "failed; take another"
        )
