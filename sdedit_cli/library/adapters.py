"""Adapters of a pipeline: loading, strengths, fusing, saving; the reference's methods and their meanings.

Weights are made anew of the base and the active adapters at each change (`engine.merging`), so that strength 0,
disabling, unfusing and unloading give the base back bit for bit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from ..adapters.embedding import TextualInversion
from ..adapters.lora import Adapter, read_adapter
from ..adapters.set import AdapterSet
from ..adapters.strengths import Weight, by_part
from ..engine.merging import Merging
from ..errors import UsageError, did_you_mean, listed, warn
from ..nn import CLIPTextModel, UNet2DCondition
from .keywords import one_file_options
from .words import arguments_named

_SLOTS = ("unet", "text_encoder")
_SAVED = "pytorch_lora_weights.safetensors"
# Options of the reference's loader that ask for nothing here.
_IDLE = ("low_cpu_mem_usage", "hotswap", "metadata")


class Adapters:
    """What `StableDiffusionImg2ImgPipeline` has loaded beside its checkpoint."""

    unet: UNet2DCondition
    text_encoder: CLIPTextModel | None

    _bundle: Callable[[Sequence[TextualInversion]], None]
    """Has the pipeline know exactly these of the words that come with adapters."""

    def __init__(self) -> None:
        super().__init__()
        self._adapters = AdapterSet()
        self._enabled = True
        self._fused: tuple[AdapterSet, float] | None = None
        self._merging: Merging | None = None

    @arguments_named()
    def load_lora_weights(
        self,
        source: str | os.PathLike[str] | Mapping[str, Tensor],
        adapter_name: str | None = None,
        *,
        weight_name: str | None = None,
        partial: bool = False,
        **options: Any,
    ) -> None:
        """Loads a LoRA or one of its relatives: a file, a folder, a Hub id, or a state dict. It is the active one then.

        `adapter_name` is 'default_0', ... where none is given; `partial` passes over keys that fit nowhere.
        Options are those of `weights.resolve`. Raises ModelError for what does not fit (nothing is changed
        then), UsageError for a name that is taken.
        """
        name = adapter_name or self._free_name()
        if name in self._adapters.adapters:
            raise UsageError(f"an adapter is called '{name}' already; give another adapter_name, or delete it first")
        adapter = self._read(source, weight_name, partial, options)
        self._merger().check(adapter)
        if left := adapter.passed_over:
            warn(f"{adapter.summary()}; {len(left)} keys fit nowhere: {listed(left, 3)}")
        wanted = AdapterSet({**self._adapters.adapters, name: adapter}, {name: {}})
        self._take(wanted)
        for unused in adapter.unused:
            warn(f"{adapter.path}: {unused}")

    def _free_name(self) -> str:
        numbers = range(len(self._adapters.adapters) + 1)
        return next(name for name in (f"default_{n}" for n in numbers) if name not in self._adapters.adapters)

    def _read(self, source: object, weight_name: str | None, partial: bool, options: Mapping[str, Any]) -> Adapter:
        where = one_file_options(options, *_IDLE)
        text = self.text_encoder.config if self.text_encoder is not None else None
        if isinstance(source, Mapping):
            tensors = cast("Mapping[str, Tensor]", source)
            return read_adapter(tensors, self.unet.config, text, partial=partial)
        from ..weights.hub import resolve

        path = resolve(cast("str | os.PathLike[str]", source), weight_name=weight_name, **where)
        return read_adapter(path, self.unet.config, text, partial=partial)

    @arguments_named()
    def set_adapters(
        self, adapter_names: str | Sequence[str], adapter_weights: Weight | Sequence[Weight] | None = None
    ) -> None:
        """Makes these adapters the active ones, each with a weight: a number, or numbers by part and by block.

        Parts that are not named count fully (1.0). Raises UsageError for names that are not loaded.
        """
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        given = adapter_weights if isinstance(adapter_weights, (list, tuple)) else [adapter_weights] * len(names)
        weights = [1.0 if weight is None else weight for weight in cast("Sequence[Weight | None]", given)]
        if len(weights) != len(names):
            raise UsageError(f"adapter_weights has {len(weights)} entries for {len(names)} adapters; give one for each")
        self._known(names)
        adapters = self._adapters.adapters
        active = {name: by_part(weight, adapters[name].patches) for name, weight in zip(names, weights, strict=True)}
        self._take(replace(self._adapters, active=active))

    def get_active_adapters(self) -> list[str]:
        """The names of the adapters that are at work."""
        return list(self._adapters.active) if self._enabled else []

    def get_list_adapters(self) -> dict[str, list[str]]:
        """The names of all loaded adapters, by the component that they change."""
        found: dict[str, list[str]] = {}
        for name, adapter in self._adapters.adapters.items():
            for slot in dict.fromkeys(slot for slot, _ in adapter.patches):
                found.setdefault(slot, []).append(name)
        return found

    def delete_adapters(self, adapter_names: str | Sequence[str]) -> None:
        """Lets go of adapters. Raises UsageError for names that are not loaded."""
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        self._known(names)
        kept = {name: adapter for name, adapter in self._adapters.adapters.items() if name not in names}
        active = {name: strength for name, strength in self._adapters.active.items() if name not in names}
        self._take(AdapterSet(kept, active))

    def enable_lora(self) -> None:
        """Puts the active adapters to work again."""
        self._enabled = True
        self._merge()

    def disable_lora(self) -> None:
        """Works with the base alone until `enable_lora`."""
        self._enabled = False
        self._merge()

    def unload_lora_weights(self) -> None:
        """Lets go of all adapters; what was fused stays."""
        self._take(AdapterSet())

    @arguments_named()
    def fuse_lora(
        self,
        components: Sequence[str] = _SLOTS,
        lora_scale: float = 1.0,
        safe_fusing: bool = False,
        adapter_names: Sequence[str] | None = None,
    ) -> None:
        """Fixes the active adapters (or `adapter_names`), times `lora_scale`, in the weights until `unfuse_lora`.

        Raises UsageError for unknown components, and where none is loaded.
        """
        _check_components(components)
        del safe_fusing  # what is not finite is refused always
        names = list(adapter_names or self._adapters.active)
        self._known(names)
        if not names:
            raise UsageError("no adapter is loaded that could be fused; load one with load_lora_weights")
        active = {name: self._adapters.active.get(name, {}) for name in names}
        patches = {
            name: replace(adapter, patches={m: p for m, p in adapter.patches.items() if m[0] in components})
            for name, adapter in self._adapters.adapters.items()
            if name in active
        }
        self._fused = AdapterSet(patches, active), lora_scale
        self._merge()

    def unfuse_lora(self, components: Sequence[str] = _SLOTS) -> None:
        """Undoes `fuse_lora`, bit for bit."""
        _check_components(components)
        if self._fused is not None:
            fused, scale = self._fused
            kept = {
                name: replace(adapter, patches={m: p for m, p in adapter.patches.items() if m[0] not in components})
                for name, adapter in fused.adapters.items()
            }
            left = any(adapter.patches for adapter in kept.values())
            self._fused = (replace(fused, adapters=kept), scale) if left else None
        self._merge()

    @arguments_named()
    def save_lora_weights(
        self,
        save_directory: str | os.PathLike[str],
        unet_lora_layers: Mapping[str, Tensor] | None = None,
        text_encoder_lora_layers: Mapping[str, Tensor] | None = None,
        is_main_process: bool = True,
        weight_name: str | None = None,
        save_function: Any = None,
        safe_serialization: bool = True,
    ) -> None:
        """Writes layers as a file that this and other programs load. Raises UsageError when there are none."""
        if not unet_lora_layers and not text_encoder_lora_layers:
            raise UsageError("give `unet_lora_layers` or `text_encoder_lora_layers`: there is nothing to save")
        if not safe_serialization or save_function is not None:
            raise UsageError("only safetensors are written; leave safe_serialization and save_function out")
        from ..weights.formats.source import MemorySource
        from ..weights.write.files import OutputFile, write_files
        from ..weights.write.safetensors import item

        layers = {"unet": unet_lora_layers or {}, "text_encoder": text_encoder_lora_layers or {}}
        tensors = {f"{slot}.{key}": tensor for slot, own in layers.items() for key, tensor in own.items()}
        source = MemorySource({key: tensor.detach().cpu() for key, tensor in tensors.items()})
        if is_main_process:
            files = [OutputFile("", tuple(item(key, source, key, None) for key in tensors))]
            write_files(Path(save_directory) / (weight_name or _SAVED), files, replace=True)

    @contextmanager
    def without_adapters(self) -> Generator[None, None, None]:
        """Within it the weights are the base's."""
        self._merger().apply({})
        try:
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
        before, self._adapters = self._adapters, wanted
        try:
            self._bundle(_words(wanted))
            self._merge()
        except BaseException:
            self._adapters = before
            self._bundle(_words(before))
            raise

    def _merge(self, scale: float = 1.0) -> None:
        """Makes the weights what the adapters say, their strengths times `scale`."""
        if self._fused is not None:
            fused, fixed = self._fused
            self._merger().apply(fused.patched(fixed))
        else:
            self._merger().apply(self._adapters.patched(scale) if self._enabled else {})

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
        if scale is None or not self._adapters.adapters:
            yield
            return
        self._merge(scale)
        try:
            yield
        finally:
            self._merge()

    def _rescale(self, cross_attention_kwargs: Mapping[str, Any] | None) -> None:
        """Works with the strengths that one call asks for. Raises UsageError for what scales nothing."""
        asked = dict(cross_attention_kwargs or {})
        scale = asked.pop("scale", 1.0)
        if asked:
            raise UsageError(f"`cross_attention_kwargs` has {', '.join(map(repr, asked))}; expected 'scale' alone")
        if cross_attention_kwargs and not self._adapters.adapters:
            raise UsageError("`cross_attention_kwargs` scale adapters, and none is loaded; leave them out")
        if self._adapters.adapters:
            self._merge(float(scale))


def _words(adapters: AdapterSet) -> list[TextualInversion]:
    return [word for adapter in adapters.adapters.values() for word in adapter.words]


def _check_components(components: Sequence[str]) -> None:
    unknown = [name for name in components if name not in _SLOTS]
    if unknown or isinstance(components, str):
        raise UsageError(f"components is {components!r}; expected a list of some of {', '.join(_SLOTS)}")
