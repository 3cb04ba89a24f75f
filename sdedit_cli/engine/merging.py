"""Adapters at work: weights are their base plus what the active adapters add, W + sum of s_k dW_k (arXiv 2106.09685).

Each dW_k is made of the base in float32, and the sum is rounded once. The base is kept, and comes back bit for bit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..adapters.apply import Base, Parts, Workspace, add_changes, changes, check_fits, written_by_rows
from ..adapters.architecture import Architecture
from ..adapters.dialects import Module
from ..adapters.kinds.leaves import is_finite
from ..adapters.lora import Adapter, read_adapter
from ..adapters.products import Products, takes_longer_to_make
from ..adapters.ranks import first_ranks
from ..adapters.set import AdapterSet
from ..adapters.strengths import Strengths, by_block, check_blocks
from ..configs.clip import CLIPTextConfig
from ..configs.unet import UNetConfig
from ..errors import ModelError
from ..nn import CLIPTextModel
from ..options.adapters import LoraFile
from ..options.blocks import BLOCKS, block_numbers
from ..runtime.cpu.weights import has_own_memory, make_writable
from ..runtime.free_memory import free_memory

_MOST_LAYERS = 48
# Of the memory that is free, what products may take that are kept for the next strength.
_SHARE = 0.25


def merge_files(
    files: Sequence[LoraFile],
    merging: Merging,
    unet: UNetConfig,
    *,
    partial: bool,
    unread: CLIPTextConfig | None = None,
) -> list[Adapter]:
    """Has the adapters of these files, and no others, merged into the networks (by slot) of an edit, and returns them.

    `unet` is the config of the model's. What a file has for a network that is not there is left out, and said; for the
    text encoder of which `unread` is the config, and which may be loaded later, it is checked. Raises ModelError for
    what does not fit; nothing is changed then.
    """
    encoder = merging.networks.get("text_encoder")
    text = encoder.config if isinstance(encoder, CLIPTextModel) else unread or _names_alone(unet)
    read = [read_adapter(Path(file.path), unet, text, partial=partial) for file in files]
    slots = {*merging.networks, *(("text_encoder",) if unread else ())}
    adapters = [_for(adapter, slots) for adapter in read]
    shape_of = Architecture.of(unet, unread, "").shape if unread else merging.shape
    for adapter in adapters:
        check_fits(adapter, shape_of)
    merging.apply(at_work(files, adapters, unet).patched())
    return adapters


def check_files(files: Sequence[LoraFile], model: Architecture, *, partial: bool) -> None:
    """Raises ModelError for what `merge_files` would refuse on a model; no weights of it are needed."""
    slots = {slot for slot, config in (("unet", model.unet), ("text_encoder", model.text)) if config is not None}
    for file in files:
        text = model.text or (_names_alone(model.unet) if model.unet else None)
        adapter = read_adapter(Path(file.path), model.unet, text, partial=partial)
        check_fits(_for(adapter, slots), model.shape)
        if model.unet:
            _strengths(file, adapter, model.unet)


def at_work(files: Sequence[LoraFile], adapters: Sequence[Adapter], unet: UNetConfig) -> AdapterSet:
    """The adapters of these files, as many ranks of each and as strongly as the files' values say.

    Raises ModelError for numbers by block and a UNet of more blocks than they are for.
    """
    cut = [first_ranks(a, file.dyn) if file.dyn else a for a, file in zip(adapters, files, strict=True)]
    names = [str(number) for number in range(len(files))]
    strengths = [_strengths(file, adapter, unet) for file, adapter in zip(files, adapters, strict=True)]
    return AdapterSet(dict(zip(names, cut, strict=True)), dict(zip(names, strengths, strict=True)))


def _strengths(file: LoraFile, adapter: Adapter, unet: UNetConfig) -> Strengths:
    numbers: Sequence[float] = (1.0,) * len(BLOCKS)
    if file.blocks:
        check_blocks(unet, file.path)
        numbers = block_numbers(file.blocks, file.path)
    return by_block(numbers, file.scale, file.text_scale, adapter.patches, unet)


def _names_alone(unet: UNetConfig) -> CLIPTextConfig:
    """A config that gives the modules of any text encoder their names."""
    width = unet.cross_attention_dim
    return CLIPTextConfig(hidden_size=width if isinstance(width, int) else 768, num_hidden_layers=_MOST_LAYERS)


def _for(adapter: Adapter, networks: Container[str]) -> Adapter:
    left = Counter(slot for slot, _ in adapter.patches if slot not in networks)
    if not left:
        return adapter
    patches = {module: patch for module, patch in adapter.patches.items() if module[0] in networks}
    told = [f"{count} modules of the {slot.replace('_', ' ')} are not used here" for slot, count in left.items()]
    words = adapter.words if "text_encoder" in networks else ()
    return replace(adapter, patches=patches, words=words, unused=(*adapter.unused, *told))


class Merging:
    """The parameters of some networks, by slot, and what is added to each just now."""

    def __init__(self, networks: Mapping[str, nn.Module]) -> None:
        self.networks = dict(networks)
        # Parameters before any adapter, in the precision that they had when one first touched them.
        self._bases: dict[tuple[str, str], Base] = {}
        self._now: dict[Module, Parts] = {}
        # Modules that something kept from being made: whatever is in them is not to be relied on.
        self._unsure: set[Module] = set()
        self.products = Products()

    @torch.inference_mode(False)
    @torch.no_grad()
    def exchange(self, networks: Mapping[str, nn.Module]) -> None:
        """Goes on with these networks. One that is not among them any more has its base back, and so has a copy of it
        that takes its place: what adapters made of its weights is no base."""
        gone = [slot for slot, network in self.networks.items() if networks.get(slot) is not network]
        work = Workspace(self.products)
        for module in [module for module in {*self._now, *self._unsure} if module[0] in gone]:
            if (other := networks.get(module[0])) is not None:
                self._hand_on_base(module, other)
            self._make(module, (), work)
        self.networks = dict(networks)

    def _hand_on_base(self, module: Module, other: nn.Module) -> None:
        """Gives the module of another network its base, where its weights are bit for bit what adapters made here."""
        slot, name = module
        mine = self.networks[slot].get_submodule(name)
        try:
            theirs = other.get_submodule(name)
        except AttributeError:  # another architecture
            return
        bases = {leaf: base for leaf in ("weight", "bias") if (base := self._bases.get((slot, f"{name}.{leaf}")))}
        if not all(_same(getattr(mine, leaf), getattr(theirs, leaf, None)) for leaf in bases):
            return
        make_writable(theirs)
        for leaf, base in bases.items():
            if (parameter := _writable(theirs, leaf)) is not None:
                parameter.copy_(base.tensor)

    def check(self, adapter: Adapter) -> None:
        """Raises ModelError for an adapter that does not fit these networks; nothing is computed."""
        check_fits(adapter, self.shape)

    @property
    def now(self) -> Mapping[Module, Parts]:
        """What is added to each module just now."""
        return dict(self._now)

    def touches(self, module: Module) -> bool:
        """Whether something is added to the module just now."""
        return module in self._now or module in self._unsure

    def shape(self, module: Module, leaf: str) -> torch.Size | None:
        """The shape of a module's weight or bias; None where it has none."""
        parameter = getattr(self.networks[module[0]].get_submodule(module[1]), leaf, None)
        return parameter.shape if isinstance(parameter, Tensor) else None

    @torch.inference_mode(False)  # what is made in that mode could be written to in it alone
    @torch.no_grad()
    def apply(self, wanted: Mapping[Module, Parts], changing: Collection[Adapter] = ()) -> None:
        """Makes the weights those of the base and `wanted`; only what changed since the last time is touched.

        Of adapters whose strengths are `changing` products are kept: the next change takes a quarter of the time. What
        is wanted of a network that is not there is passed over. Raises ModelError for an adapter that does not fit a
        module; then all is as before.
        """
        before = dict(self._now)
        wanted = {module: parts for module, parts in wanted.items() if module[0] in self.networks}
        changed = [
            module
            for module in {**dict.fromkeys(self._unsure), **before, **wanted}
            if module in self._unsure or before.get(module, ()) != wanted.get(module, ())
        ]
        kept = set(self.products.kept)
        self.products.keep(self._products_to_keep(wanted, frozenset(changing)))
        work = Workspace(self.products)
        try:
            for module in changed:
                self._make(module, wanted.get(module, ()), work)
        except BaseException:
            for module in changed:
                self._make(module, before.get(module, ()), work)
            self.products.keep(kept)
            raise

    def _products_to_keep(self, wanted: Mapping[Module, Parts], changing: Set[Adapter]) -> set[tuple[Adapter, Module]]:
        kept = {key for key in self.products.kept if key[0] in changing}
        at_work = {(adapter, module) for module, parts in wanted.items() for adapter, _ in parts if adapter in changing}
        more = {key for key in at_work - kept if takes_longer_to_make(*key)}
        if not more:  # as before each call: what is free is a question to the system
            return kept
        has = self.products.nbytes
        asks = 4 * sum(shape.numel() for _, module in more if (shape := self.shape(module, "weight")))
        return kept | more if has + asks < _SHARE * (has + free_memory()) else kept

    def _make(self, module: Module, parts: Parts, work: Workspace) -> None:
        slot, name = module
        self._unsure.add(module)
        layer = self.networks[slot].get_submodule(name)
        if (slot, f"{name}.weight") in self._bases:  # so the weight is made of that, whatever it is now
            make_writable(layer)
        for leaf in ("weight", "bias"):
            parameter = _writable(layer, leaf)
            if parameter is not None:
                self._fill(module, leaf, parameter, parts, work)
        if parts:
            self._now[module] = parts
        else:
            self._now.pop(module, None)
        self._unsure.discard(module)

    def _fill(self, module: Module, leaf: str, parameter: Tensor, parts: Parts, work: Workspace) -> None:
        key = (module[0], f"{module[1]}.{leaf}")
        base = self._bases.get(key)
        if changes(parts, module, leaf):
            if base is None:
                base = self._bases[key] = Base(_kept(parameter))
            # Also where a signal came before this could be done, the last time.
            if parameter.data_ptr() == base.tensor.data_ptr():
                parameter.data = torch.empty_like(base.tensor)
            if leaf == "weight" and written_by_rows(parameter, base, parts, module, work):
                return
            is_wide = parameter.dtype == torch.float32
            wide = parameter if is_wide else torch.empty_like(parameter, dtype=torch.float32)
            add_changes(wide.copy_(base.tensor), parts, module, leaf)
            if not is_wide and not is_finite(parameter.copy_(wide)):
                raise _too_large(parts, module, parameter.dtype)
        elif base is not None:
            _put_back(parameter, base.tensor)
            del self._bases[key]


def _writable(layer: nn.Module, leaf: str) -> Tensor | None:
    """A parameter of a layer, if it has one: an ordinary one in the place of one that was made in torch.inference_mode,
    and could be written to in it alone."""
    parameter: object = getattr(layer, leaf, None)
    if not isinstance(parameter, Tensor):
        return None
    if parameter.is_inference():
        parameter = nn.Parameter(parameter.clone(), requires_grad=False)
        setattr(layer, leaf, parameter)
    return parameter


def _kept(parameter: Tensor) -> Tensor:
    """The numbers of a parameter, in whose place others are to be written.

    On a CPU they keep their memory, and the parameter gets new: it may be a file's, whose pages would be copied when
    they are written to. Elsewhere they are a copy, and where somebody else sees that memory: captured graphs and fused
    projections are written into where they are.
    """
    if parameter.device.type == "cpu" and parameter.is_contiguous() and has_own_memory(parameter):
        return parameter.detach()
    return parameter.detach().clone(memory_format=torch.contiguous_format)


def _put_back(parameter: Tensor, plain: Tensor) -> None:
    """Has the numbers that were kept in a parameter again, in their own memory where nobody sees what it has."""
    is_alike = _kind_of(plain) == _kind_of(parameter)
    if is_alike and parameter.device.type == "cpu" and has_own_memory(parameter):
        parameter.data = plain
    else:
        parameter.copy_(plain)


def _kind_of(tensor: Tensor) -> tuple[object, ...]:
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def _same(one: Tensor, other: Tensor | None) -> bool:
    """Whether two parameters have the same numbers, in one precision and on one device."""
    return (
        other is not None
        and (one.shape, one.dtype, one.device) == (other.shape, other.dtype, other.device)
        and torch.equal(one, other)
    )


def _too_large(parts: Parts, module: Module, dtype: torch.dtype) -> ModelError:
    paths = ", ".join(str(adapter.path) for adapter, _ in parts)
    return ModelError(
        f"{paths}: makes numbers in {'.'.join(module)} that are too large for {str(dtype).removeprefix('torch.')}; "
        "nothing was changed. Take float32, or a smaller strength."
    )
