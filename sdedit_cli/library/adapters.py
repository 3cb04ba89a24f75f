"""Adapters of a pipeline: loading, strengths, fusing, saving; the reference's methods and their meanings.

Weights are made anew of the base and the active adapters at each change (`engine.merging`), so that strength 0,
disabling, unfusing and unloading give the base back bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from torch import nn

from ..adapters.apply import Parts
from ..adapters.dialects import Module
from ..adapters.embedding import TextualInversion
from ..adapters.lora import Adapter, read_adapter
from ..adapters.set import AdapterSet
from ..adapters.strengths import Strengths, Weight, by_part
from ..engine.merging import Merging
from ..errors import UsageError, did_you_mean, listed, warn
from ..nn import CLIPTextModel, UNet2DCondition
from .adapter_arguments import SLOTS, asked_slots, checked_scale, located, name_of, names_of, weights_of
from .adapter_files import AdapterFiles, Source
from .words import arguments_named

_TABLE: Module = ("text_encoder", "text_model.embeddings.token_embedding")


@dataclass(frozen=True)
class _Fused:
    """An adapter that is fixed in the weights of one component, with the strengths that it had, times `scale`."""

    name: str
    adapter: Adapter
    slot: str
    strengths: Strengths
    scale: float
    aside: frozenset[Adapter]
    """Those that were loaded and not fused with it: they are not at work on what it changes."""

    def patched(self) -> Mapping[Module, Parts]:
        found = AdapterSet({"": self.adapter}, {"": self.strengths}).patched(self.scale)
        return {module: parts for module, parts in found.items() if module[0] == self.slot}


class Adapters(AdapterFiles):
    """What `StableDiffusionImg2ImgPipeline` has loaded beside its checkpoint."""

    unet: UNet2DCondition
    text_encoder: CLIPTextModel | None

    _bundle: Callable[[Sequence[TextualInversion]], None]
    """Has the pipeline know exactly these of the words that come with adapters."""
    _words_aside: Callable[[], AbstractContextManager[None]]
    """Within it the text encoder has the embeddings of its checkpoint alone."""

    def __init__(self) -> None:
        super().__init__()
        self._adapters = AdapterSet()
        self._enabled: bool = True
        self._strengths: Mapping[str, Strengths] = {}
        """What adapters had when they were last at work."""
        self._weights: dict[str, Weight] = {}
        """What those strengths were made of, where `set_adapters` was asked for it."""
        self._fused: tuple[_Fused, ...] = ()
        self._merging: Merging | None = None
        self._share: float = 1.0
        """What a call multiplies all strengths by while it lasts."""

    @arguments_named()
    def load_lora_weights(
        self,
        pretrained_model_name_or_path_or_dict: Source,
        adapter_name: str | None = None,
        hotswap: bool = False,
        *,
        weight_name: str | None = None,
        partial: bool = False,
        **options: Any,
    ) -> None:
        """Loads a LoRA or one of its relatives: a file, a folder, a Hub id, or a state dict. It is the active one then.

        `adapter_name` is 'default_0', ... where none is given; with `hotswap` it is one that is loaded, and this takes
        its place, as strong as it was. `partial` passes over keys that fit nowhere.
        Options are those of `weights.resolve`. Raises ModelError for what does not fit (nothing is changed
        then), UsageError for a name that is taken.
        """
        name = name_of(adapter_name) or self._free_name()
        if hotswap:
            self._known([name])
        elif name in self._adapters.adapters:
            raise UsageError(f"an adapter is called '{name}' already; give another adapter_name, or delete it first")
        adapter = self._read(pretrained_model_name_or_path_or_dict, weight_name, partial, options)
        with self._room(adapter.patches):
            self._merger().check(adapter)
        if left := adapter.passed_over:
            warn(f"{adapter.summary()}; {len(left)} keys fit nowhere: {listed(left, 3)}")
        # Another file has other modules.
        strengths = by_part(self._weights.get(name, 1.0) if hotswap else 1.0, adapter.patches, self.unet.config)
        before: Mapping[str, Strengths] = self._adapters.active if hotswap else {}
        is_active = not hotswap or name in before
        self._take(
            AdapterSet({**self._adapters.adapters, name: adapter}, {**before, name: strengths} if is_active else before)
        )
        self._strengths = {**self._strengths, name: strengths}
        if not hotswap:
            self._weights.pop(name, None)
        for unused in adapter.unused:
            warn(f"{adapter.path}: {unused}")
        if not self._enabled:
            warn(f"'{name}' is loaded, and adapters are disabled; enable_lora() puts it to work")

    def _free_name(self) -> str:
        return next(
            name
            for number in count(len(self._adapters.adapters))
            if (name := f"default_{number}") not in self._adapters.adapters
        )

    def _read(self, source: object, weight_name: str | None, partial: bool, options: Mapping[str, Any]) -> Adapter:
        text = self.text_encoder.config if self.text_encoder is not None else None
        return read_adapter(located(source, weight_name, options), self.unet.config, text, partial=partial)

    @arguments_named()
    def set_adapters(
        self, adapter_names: str | Sequence[str], adapter_weights: Weight | Sequence[Weight] | None = None
    ) -> None:
        """Makes these adapters the active ones, each with a weight: a number, or numbers by part and by block.

        Parts that are not named count fully (1.0). Raises UsageError for names that are not loaded.
        """
        names = names_of(adapter_names)
        if any(names.count(name) > 1 for name in names):
            raise UsageError(f"adapter_names has a name twice: {', '.join(map(str, names))}; give each once")
        weights: list[Weight] = weights_of(adapter_weights, len(names))
        self._known(names)
        adapters = self._adapters.adapters
        active = {
            name: by_part(weight, adapters[name].patches, self.unet.config)
            for name, weight in zip(names, weights, strict=True)
        }
        self._take(replace(self._adapters, active=active))
        self._weights |= dict(zip(names, weights, strict=True))
        for name in names:
            instead = {fused.name for fused in self._fused if adapters[name] in fused.aside}
            if instead and name not in self.fused_loras:
                layers = f"the layers of {listed(sorted(instead))}, which is fused"
                warn(f"'{name}' is not at work on {layers}; call unfuse_lora() before")

    def get_active_adapters(self) -> list[str]:
        """The names of the active adapters: they are at work unless `disable_lora` was called."""
        return list(self._adapters.active)

    def get_list_adapters(self) -> dict[str, list[str]]:
        """The names of all loaded adapters, by the component that they change."""
        found: dict[str, list[str]] = {}
        for name, adapter in self._adapters.adapters.items():
            for slot in dict.fromkeys(slot for slot, _ in adapter.patches):
                found.setdefault(slot, []).append(name)
        return found

    def delete_adapters(self, adapter_names: str | Sequence[str]) -> None:
        """Lets go of adapters. Where no active one is left, the first that is loaded is the active one, as strong as
        it was. Raises UsageError for names that are not loaded."""
        names = names_of(adapter_names)
        self._known(names)
        kept = {name: adapter for name, adapter in self._adapters.adapters.items() if name not in names}
        active = {name: strength for name, strength in self._adapters.active.items() if name not in names}
        if self._adapters.active and not active:
            active = {name: self._strengths.get(name, {}) for name in list(kept)[:1]}
        self._take(AdapterSet(kept, active))

    def enable_lora(self) -> None:
        """Puts the active adapters to work again."""
        self._settle(_enabled=True)

    def disable_lora(self) -> None:
        """Works with the base alone until `enable_lora`."""
        self._settle(_enabled=False)

    def unload_lora_weights(self) -> None:
        """Lets go of all adapters; what was fused stays, and others can be loaded beside it."""
        self._take(AdapterSet())

    @arguments_named()
    def fuse_lora(
        self,
        components: Sequence[str] = SLOTS,
        lora_scale: float = 1.0,
        safe_fusing: bool = False,
        adapter_names: str | Sequence[str] | None = None,
        *,
        fuse_unet: bool = True,
        fuse_text_encoder: bool = True,
    ) -> None:
        """Fixes the active adapters (or `adapter_names`), times `lora_scale`, in the weights of these components until
        `unfuse_lora`. What is fused already stays as it is, and others that are loaded are not at work on the layers of
        these until then.

        `fuse_unet` and `fuse_text_encoder` leave one out, as they did in older releases of the reference. Raises
        UsageError for unknown components and none, for a scale that is no finite number, and where none is loaded.
        """
        components = asked_slots(components, unet=fuse_unet, text_encoder=fuse_text_encoder)
        scale = checked_scale("lora_scale", lora_scale)
        del safe_fusing  # what is not finite is refused always
        names = list(dict.fromkeys(names_of(adapter_names) if adapter_names else self._adapters.active))
        self._known(names)
        if not names:
            raise UsageError("no adapter is loaded that could be fused; load one with load_lora_weights")
        wanted, adapters = self._fused, self._adapters.adapters
        aside = frozenset(adapter for name, adapter in adapters.items() if name not in names)
        for name in names:
            adapter = adapters[name]
            slots = [slot for slot in components if not self._is_fused(adapter, slot)]
            if components and not slots:
                warn(f"'{name}' is fused already, and stays as strong as it is; call unfuse_lora() before")
            strengths = self._adapters.active.get(name, self._strengths.get(name, {}))
            wanted += tuple(_Fused(name, adapter, slot, strengths, scale, aside) for slot in slots)
        self._settle(_fused=wanted)

    @arguments_named()
    def unfuse_lora(
        self, components: Sequence[str] = SLOTS, *, unfuse_unet: bool = True, unfuse_text_encoder: bool = True
    ) -> None:
        """Undoes `fuse_lora`, bit for bit: adapters that are still loaded are at work as they were."""
        components = asked_slots(components, unet=unfuse_unet, text_encoder=unfuse_text_encoder)
        self._settle(_fused=tuple(fused for fused in self._fused if fused.slot not in components))

    @property
    def fused_loras(self) -> set[str]:
        """The names of the adapters that are fused."""
        return {fused.name for fused in self._fused}

    @property
    def lora_scale(self) -> float:
        """What the call that runs multiplies all strengths by; 1 outside of calls."""
        return self._share

    @property
    def num_fused_loras(self) -> int:
        return len(self.fused_loras)

    def _is_fused(self, adapter: Adapter, slot: str) -> bool:
        return any(fused.adapter is adapter and fused.slot == slot for fused in self._fused)

    def _gives_way(self, adapter: Adapter, module: Module) -> bool:
        """Whether a module is changed by what is fused in place of an adapter."""
        own = (fused for fused in self._fused if fused.slot == module[0] and module in fused.adapter.patches)
        return any(adapter is fused.adapter or adapter in fused.aside for fused in own)

    @contextmanager
    def without_adapters(self) -> Generator[None, None, None]:
        """Within it the weights are the base's, with what is fused in them."""
        try:
            self._apply(self._fixed())
            yield
        finally:
            self._merge()

    def _known(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self._adapters.adapters:
                loaded = list(self._adapters.adapters)
                known = ", ".join(loaded) or "none"
                raise UsageError(f"no adapter is called '{name}'{did_you_mean(name, loaded)}; loaded are: {known}")

    def _take(self, wanted: AdapterSet) -> None:
        """Goes on with these adapters, or, when one of them does not fit, with those before."""
        before, left = self._adapters, frozenset(wanted.adapters.values())
        # What is gone is not held here either.
        fused = tuple(replace(one, aside=one.aside & left) for one in self._fused)
        try:
            self._bundle(_words(wanted))
            # Without adapters nothing is disabled: the next one that is loaded is at work.
            self._settle(_adapters=wanted, _fused=fused, _enabled=self._enabled or not wanted.adapters)
        except BaseException:
            self._bundle(_words(before))
            raise
        self._strengths = {n: s for n, s in {**self._strengths, **wanted.active}.items() if n in wanted.adapters}

    def _settle(self, **wanted: Any) -> None:
        """Has these of its attributes and the weights that they ask for, or, when that fails, all as before."""
        before = {name: getattr(self, name) for name in wanted}
        try:
            vars(self).update(wanted)
            self._merge()
        except BaseException:
            vars(self).update(before)
            raise

    def _merge(self) -> None:
        """Makes the weights what the adapters say, at the share of their strengths that a call asks for."""
        wanted = self._fixed()
        for module, parts in self._adapters.patched(self._share).items() if self._enabled else ():
            loose = tuple(part for part in parts if not self._gives_way(part[0], module))
            if loose:
                wanted[module] = (*wanted.get(module, ()), *loose)
        self._apply(wanted)

    def _apply(self, wanted: Mapping[Module, Parts]) -> None:
        with self._room(wanted):
            # What is fused alone stays as strong as it is.
            self._merger().apply(wanted, changing=self._adapters.adapters.values())

    def _room(self, wanted: Container[Module]) -> AbstractContextManager[None]:
        """Where the table of embeddings is changed, or was: words that have rows of it are aside meanwhile."""
        is_changed = _TABLE in wanted or self._merger().touches(_TABLE)
        return self._words_aside() if is_changed else nullcontext()

    def _fixed(self) -> dict[Module, Parts]:
        """What is fused in each module."""
        wanted: dict[Module, Parts] = {}
        for fused in self._fused:
            for module, parts in fused.patched().items():
                wanted[module] = (*wanted.get(module, ()), *parts)
        return wanted

    def _merger(self) -> Merging:
        """What merges into the networks as they are now."""
        networks: dict[str, nn.Module] = {"unet": self.unet}
        if self.text_encoder is not None:
            networks["text_encoder"] = self.text_encoder
        if self._merging is None:
            self._merging = Merging(networks)
        elif self._merging.networks != networks:
            self._merging.exchange(networks)
        return self._merging

    @contextmanager
    def _scaled(self, scale: float | None) -> Generator[None, None, None]:
        """Within it all strengths are times `scale`; without one, or without adapters, they stay."""
        number, before = checked_scale("lora_scale", scale), self._share
        if scale is None or not self._adapters.adapters:
            self._follow()
            yield
            return
        try:
            self._settle(_share=number)
            yield
        finally:
            self._settle(_share=before)

    def _rescale(self, cross_attention_kwargs: Mapping[str, Any] | None) -> None:
        """Works with the strengths that one call asks for. Raises UsageError for what scales nothing."""
        asked = dict(cross_attention_kwargs or {})
        scale = asked.pop("scale", None)
        if asked:
            raise UsageError(f"`cross_attention_kwargs` has {', '.join(map(repr, asked))}; expected 'scale' alone")
        self._share = checked_scale("cross_attention_kwargs' 'scale'", scale)
        self._follow()

    def _follow(self) -> None:
        """Has what is loaded, and what is fused, at work in the networks as they are now: they may be others."""
        if self._adapters.adapters or self._fused:
            self._merge()


def _words(adapters: AdapterSet) -> list[TextualInversion]:
    return [word for adapter in adapters.adapters.values() for word in adapter.words]
