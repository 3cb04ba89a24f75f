"""The models that adapters are for, known without a checkpoint: names and shapes of all their modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from ..configs.clip import CLIPTextConfig
from ..configs.unet import UNetConfig
from ..errors import ModelError, listed
from ..nn import CLIPTextModel, UNet2DCondition
from ..weights.formats.source import WeightSource
from .deltas import READ, Misfit, check, kinds_of
from .dialects import Module, family_of, module_names
from .lora import grouped
from .recognise import taken_for
from .training import said_family


@dataclass(frozen=True)
class Architecture:
    """A model's configs, and what it is called for people."""

    title: str
    unet: UNetConfig | None
    text: CLIPTextConfig | None

    @classmethod
    def of(cls, unet: object, text: object, title: str) -> Architecture:
        """Of the configs of a checkpoint's components, None and others for those that it lacks."""
        return cls(
            title,
            unet if isinstance(unet, UNetConfig) else None,
            text if isinstance(text, CLIPTextConfig) else None,
        )

    @cached_property
    def names(self) -> Mapping[str, Module]:
        """Its modules by every name that files have for them."""
        return module_names(self.unet, self.text)

    @cached_property
    def _shapes(self) -> Mapping[tuple[str, str], torch.Size]:
        networks: dict[str, nn.Module] = {}
        with torch.device("meta"):
            if self.unet:
                networks["unet"] = UNet2DCondition(self.unet)
            if self.text:
                networks["text_encoder"] = CLIPTextModel(self.text)
        return {(slot, name): t.shape for slot, network in networks.items() for name, t in _state(network).items()}

    def shape(self, module: Module, leaf: str = "weight") -> torch.Size | None:
        """The shape of a module's weight or bias, None where it has none."""
        slot, name = module
        return self._shapes.get((slot, f"{name}.{leaf}"))

    def weight_shape(self, module: Module) -> torch.Size:
        """The shape of the weight of a module that there is."""
        found = self.shape(module)
        assert found is not None
        return found

    def modules(self, slot: str) -> list[str]:
        """The layers of a component that factors can change: linear ones and convolutions."""
        ending = ".weight"
        return [
            name.removesuffix(ending)
            for (own, name), shape in self._shapes.items()
            if own == slot and name.endswith(ending) and len(shape) > 1 and not name.endswith(_TABLES)
        ]


_TABLES = ("token_embedding.weight", "position_embedding.weight")


def _state(network: nn.Module) -> dict[str, Tensor]:
    return network.state_dict()


# The models that most files are for; those of others are told by a checkpoint.
KNOWN: Sequence[Architecture] = (
    Architecture(
        "Stable Diffusion 1.x",
        UNetConfig(cross_attention_dim=768),
        CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12),
    ),
    Architecture(
        "Stable Diffusion 2.x",
        UNetConfig(cross_attention_dim=1024, use_linear_projection=True, attention_head_dim=(5, 10, 20, 20)),
        CLIPTextConfig(hidden_size=1024, intermediate_size=4096, num_attention_heads=16, num_hidden_layers=23),
    ),
)


def likeliest(source: WeightSource, known: Sequence[Architecture] = KNOWN) -> Sequence[Architecture]:
    """The architectures that the adapter in a file fits best, by names and shapes; none where nothing of it fits, and
    not for want of a part.

    Several are those whose shapes it fits equally and between which its metadata says nothing. No tensor is read but
    those whose values decide.
    """
    family = family_of({key: source.shape(key) for key in source.names()})
    fits = [(_fitting(source, one), one) for one in known if family in ("", one.title)]
    best = max((fit for fit, _ in fits), default=(0, 0, 0))
    if best[:2] <= (0, 0):
        return ()
    equal = [one for fit, one in fits if fit == best]
    said = said_family(source.metadata)
    return [one for one in equal if one.title == said] or equal


def _fitting(source: WeightSource, architecture: Architecture) -> tuple[int, int, int]:
    """How many modules of the file the architecture has in these shapes, as what is no whole kind, and by name."""
    leaves, _ = grouped(source, architecture.names.get)
    count = broken = 0
    for module, own in leaves.items():
        try:
            kinds_of(own)
        except Misfit:
            broken += 1
            continue
        shapes = {
            leaf: source.get(key) if leaf in READ else torch.empty(source.shape(key), device="meta")
            for leaf, key in own.items()
        }
        weight = architecture.weight_shape(module)
        try:
            # A bias of a layer without one may be zeros, which shapes do not say.
            check(shapes, weight, architecture.shape(module, "bias") or weight[:1])
        except (Misfit, RuntimeError):
            continue
        count += 1
    return count, broken, len(leaves)


def unknown(source: WeightSource) -> ModelError:
    """The error for a file whose modules no known model has."""
    if other := taken_for(source, "lora"):
        return ModelError(f"{source.path}: {other}")
    names = source.names()
    family = family_of({key: source.shape(key) for key in names})
    made_for = f"is made for {family}" if family else f"fits no model that is known ({listed(names, 2) or 'no keys'})"
    return ModelError(
        f"{source.path}: {made_for}; 'sdedit lora inspect' describes it.",
        "Worked on are those for Stable Diffusion 1.x and 2.x; name an unusual one of these with --model.",
    )
