"""Files of adapters opened: the tensors, and what a header or a config beside them says of their strengths."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ..configs.base import as_object, object_in, read_json
from ..errors import ModelError, WrongTypeError, shown
from ..weights.formats.mapped_file import reading
from ..weights.formats.open import open_weights
from ..weights.formats.source import MemorySource, WeightSource
from .bundled import PREFIX as BUNDLED
from .deltas import Misfit, Scaling
from .dialects import Module
from .embedding_files import no_single
from .patterns import Patterns
from .peft_config import check_config

HEADER = "lora_adapter_metadata"
_FOLDER_FILES = (
    "pytorch_lora_weights.safetensors",
    "adapter_model.safetensors",
    "pytorch_lora_weights.bin",
    "adapter_model.bin",
)
_ENDINGS = (".safetensors", ".bin", ".pt", ".ckpt")
CONFIG = "adapter_config.json"
OF_PEFT = "base_model.model."
"""What PEFT puts before the names of modules."""
_NUMBERS = (".alpha", ".scale")  # leaves
_BOOKKEEPING = "_aux."  # of slider tools
HALVES = ("unet", "text_encoder")
"""The folders within one that holds an adapter of PEFT for each of the two."""


def adapter_keys(names: Collection[str]) -> list[str]:
    """The keys of a file that are meant to be an adapter's."""
    return [name for name in names if not name.startswith((_BOOKKEEPING, BUNDLED))]


def find_adapter(path: Path) -> Path:
    """The weights file of an adapter: the file itself, or the one of a folder. Raises ModelError."""
    if not path.is_dir():
        return path
    names = _weights_in(path)
    known = next((name for name in _FOLDER_FILES if name in names), None)
    if known is None and len(names) != 1:
        raise ModelError(f"{path}: {no_single(path, names, 'adapter')}")
    return path / (known or names[0])


def _weights_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.suffix.lower() in _ENDINGS)


def open_adapter(path: Path) -> tuple[WeightSource, Header]:
    """The tensors of an adapter's file or folder, and what is said of their strengths. Raises ModelError.

    A folder that holds two of PEFT, `unet` and `text_encoder`, is one adapter.
    """
    halves = {slot: path / slot for slot in HALVES if (path / slot / CONFIG).is_file()}
    if halves:
        opened = {slot: _open(half) for slot, half in halves.items()}
        told = {slot: header.parts.get(slot, {}) for slot, (_, header) in opened.items()}
        of_peft = any(header.of_peft for _, header in opened.values())
        return _Halves(path, {slot: source for slot, (source, _) in opened.items()}), Header(told, of_peft)
    return _open(path)


def _open(path: Path) -> tuple[WeightSource, Header]:
    path = find_adapter(path)
    with reading(whole=True):  # an adapter is small and used for long: its file may change or go meanwhile
        source = open_weights(path)
    if numbers := _numbers(source.extras):
        tensors = {name: source.get(name) for name in source.names()} | numbers
        source = MemorySource(tensors, path=path, extras=source.extras, format=source.format)
    beside = path.parent / CONFIG
    if beside.is_file() and _is_of_config(path, source) and (config := read_json(beside)):
        check_config(config, beside)
        return source, Header(dict.fromkeys(HALVES, config), of_peft=True)
    header = Header.of(source)
    for told in header.parts.values():
        check_config(told, path)
    return source, header


def _is_of_config(path: Path, source: WeightSource) -> bool:
    """Whether the config of PEFT beside a file is its own: by its name, or as it is the only weights there, which have
    PEFT's names and say nothing of their strengths themselves."""
    if path.name.startswith("adapter_model"):
        return True
    names = source.names()
    says_nothing = HEADER not in source.metadata and not any(name.endswith(_NUMBERS) for name in names)
    of_peft = all(name.startswith("base_model.") for name in names)
    return says_nothing and of_peft and _weights_in(path.parent) == [path.name]


def of_state(state: Mapping[str, object]) -> WeightSource:
    """A state dict as a source; its alphas may be plain numbers. Raises WrongTypeError for what is no tensor, or none
    with numbers."""
    for name in cast("Mapping[object, object]", state):
        if not isinstance(name, str):
            raise WrongTypeError(f"the state dict has {name!r} as a name; expected a text")
    tensors: Mapping[str, object] = {**state, **_numbers(state)}
    for name, value in tensors.items():
        if isinstance(value, Tensor) and value.is_meta:
            raise WrongTypeError(f"the state dict has '{shown(name)}' on the meta device, without its numbers")
        if not isinstance(value, Tensor):
            raise WrongTypeError(f"the state dict has a {type(value).__name__} as '{shown(name)}'; expected a tensor")
    # Weights are built again and again: what a caller does with its own tensors meanwhile must not be in some of them.
    own = {name: tensor.detach().clone() for name, tensor in cast("Mapping[str, Tensor]", tensors).items()}
    return MemorySource(own, path=Path("the state dict"))


def _numbers(state: Mapping[str, object]) -> dict[str, Tensor]:
    """As tensors, the alphas that are plain numbers: pickles and state dicts hold them so, where safetensors cannot."""
    found = {name: value for name, value in state.items() if name.endswith(_NUMBERS) and not isinstance(value, Tensor)}
    return {
        name: torch.tensor(_float(value), dtype=torch.float64)
        for name, value in found.items()
        if not isinstance(value, bool) and isinstance(value, Real)
    }


class _Halves(WeightSource):
    """Sources by component as one, the component before each name."""

    def __init__(self, path: Path, sources: Mapping[str, WeightSource]) -> None:
        self.path, self._sources = path, sources
        first = next(iter(sources.values()))
        self.format, self.metadata = first.format, {k: v for s in sources.values() for k, v in s.metadata.items()}

    def names(self) -> list[str]:
        return [f"{slot}.{name}" for slot, source in self._sources.items() for name in source.names()]

    def shape(self, name: str) -> tuple[int, ...]:
        source, own = self._of(name)
        return source.shape(own)

    def dtype(self, name: str) -> torch.dtype:
        source, own = self._of(name)
        return source.dtype(own)

    def get(self, name: str) -> Tensor:
        source, own = self._of(name)
        return source.get(own)

    def _of(self, name: str) -> tuple[WeightSource, str]:
        slot, _, own = name.partition(".")
        return self._sources[slot], own


@dataclass(frozen=True)
class Header:
    """Ranks and alphas that stand in the header of a file, or in a config beside it, by component; `of_peft` where the
    names or such a config say that PEFT has written it."""

    parts: Mapping[str, Mapping[str, Any]]
    of_peft: bool = False

    @classmethod
    def of(cls, source: WeightSource) -> Header:
        """What the file's own header and names say."""
        said = object_in(source.metadata.get(HEADER, "{}")) or {}
        # What a single network saved names no component.
        bare = {name: value for name, value in said.items() if "." not in name}
        parts: dict[str, dict[str, Any]] = {slot: dict(bare) for slot in HALVES} if bare else {}
        for name, value in said.items():
            slot, dot, key = name.partition(".")
            if dot:
                parts.setdefault(slot, {})[key] = value
        return cls(parts, of_peft=any(OF_PEFT in name for name in source.names()))

    def scaling(self, module: Module) -> Scaling:
        """What is said of a module: the alpha of the first pattern that ends its name, or the general one.

        Raises Misfit for one that is no finite number, and for patterns that are more than names.
        """
        told = self.parts.get(module[0], {})
        # PEFT calls it so for LoRA, and 'alpha' for LoHa and LoKr.
        found = self._patterned(module, "alpha_pattern", told.get("lora_alpha", told.get("alpha")))
        return Scaling(
            _alpha(found),
            rank_stabilised=told.get("use_rslora") is True,
            of_peft=self.of_peft or told.get("peft_type") == "OFT",
        )

    def whole_scale(self, module: Module) -> float | None:
        """What PEFT multiplies a LoKr of two whole matrices by, where LyCORIS has 1; None for files of others."""
        told = self.parts.get(module[0], {})
        alpha, rank = self.scaling(module).alpha, self._patterned(module, "rank_pattern", told.get("r"))
        is_rank = isinstance(rank, int) and rank > 0
        return alpha / rank if told.get("peft_type") == "LOKR" and alpha is not None and is_rank else None

    def _patterned(self, module: Module, title: str, otherwise: object) -> Any:
        slot, name = module
        patterns = self._patterns.get((slot, title))
        return patterns.get(name, otherwise) if patterns else otherwise

    @cached_property
    def _patterns(self) -> Mapping[tuple[str, str], Patterns]:
        titles = ("alpha_pattern", "rank_pattern")
        told = {(slot, title): told.get(title) for slot, told in self.parts.items() for title in titles}
        return {key: Patterns(key[1], as_object(values)) for key, values in told.items() if values}


def _alpha(found: object) -> float | None:
    if found is None:
        return None
    alpha = _float(found) if isinstance(found, (int, float)) and not isinstance(found, bool) else math.nan
    if not math.isfinite(alpha):
        raise Misfit(f"alpha is {shown(found)}; expected a finite number")
    return alpha


def _float(value: Real | float) -> float:
    """A number as a float; an infinite one for a whole number that is too large for any."""
    try:
        return float(value)
    except OverflowError:
        return math.inf
