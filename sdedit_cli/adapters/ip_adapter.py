"""Files of IP-Adapters (arXiv 2308.06721): which variant they are, and whether they fit a UNet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from ..configs.unet import UNetConfig
from ..errors import ModelError, UsageError, listed, shown
from ..nn.ip_adapter import HEAD, ImageAdapter, ImageKeys, LinearProjection, Resampler, StatesProjection
from ..weights.formats.mapped_file import reading
from ..weights.formats.open import open_weights
from ..weights.formats.source import MemorySource, WeightSource
from ..weights.load.fill import fill
from .dialects import FAMILIES_BY_WIDTH
from .ip_layers import ImageLayer, image_layers
from .kinds.leaves import is_finite
from .open import find_adapter
from .recognise import taken_for

_PARTS = ("image_proj.", "ip_adapter.")


class Shapes:
    """The shapes of a file's projection, by names without its prefix."""

    def __init__(self, source: WeightSource) -> None:
        self.source = source
        start = _PARTS[0]
        self.names = [name.removeprefix(start) for name in source.names() if name.startswith(start)]

    def side(self, name: str, axis: int) -> int:
        """Raises ModelError for a tensor that is not there, or has not so many sides."""
        shape = self.source.shape(_PARTS[0] + name) if name in self.names else ()
        if axis >= len(shape) or not all(shape):
            raise ModelError(f"{self.source.path}: lacks '{_PARTS[0]}{name}', or its shape is {list(shape)}")
        return shape[axis]


@dataclass(frozen=True)
class Variant:
    """A kind of IP-Adapter: `mark` is a tensor of its projection that no other has; `states`: it reads the encoder's
    last hidden states but one, and not its projected embedding."""

    words: str
    mark: str
    states: bool
    build: Callable[[Shapes], nn.Module]
    features: str  # the tensor whose second side is the width that it reads


def _linear(shapes: Shapes) -> nn.Module:
    width = shapes.side("norm.weight", 0)
    return LinearProjection(shapes.side("proj.weight", 1), shapes.side("proj.weight", 0) // width, width)


def _states(shapes: Shapes) -> nn.Module:
    inner, features = (shapes.side("proj.0.weight", axis) for axis in (0, 1))
    return StatesProjection(features, inner, shapes.side("proj.3.weight", 0))


def _resampler(shapes: Shapes) -> nn.Module:
    inner = shapes.side("layers.0.0.to_q.weight", 0)
    if inner % HEAD:
        raise ModelError(f"{shapes.source.path}: its resampler is {inner} wide; expected a multiple of {HEAD}")
    return Resampler(
        shapes.side("proj_in.weight", 1),
        shapes.side("latents", 1),
        shapes.side("norm_out.weight", 0),
        resampled=shapes.side("latents", 2),
        inner=inner,
        hidden=shapes.side("layers.0.1.1.weight", 0),
        depth=len({name.split(".")[1] for name in shapes.names if name.startswith("layers.")}),
    )


VARIANTS = (
    Variant("base", "proj.weight", states=False, build=_linear, features="proj.weight"),
    Variant("plus", "latents", states=True, build=_resampler, features="proj_in.weight"),
    Variant("full-face", "proj.3.weight", states=True, build=_states, features="proj.0.weight"),
)

# parts of names that tell what cannot be used, and what it is; those of faces, LoRAs have too
_OF_DUMPS = ("image_proj_model.", "adapter_modules.", ".processor.to_k_ip.")
_DUMP = (
    "is a dump of a training run and no adapter yet; save its image_proj_model.* as image_proj.* and its "
    "adapter_modules.* as ip_adapter.*"
)
_OF_FACES = ("to_q_lora.", "to_k_lora.", "perceiver_resampler.")
_FACES = "is a FaceID adapter, which needs a face recogniser; use a plain, plus or plus-face one"


@dataclass(frozen=True, eq=False)
class IPAdapter:
    """An adapter's network, and what it is."""

    path: Path
    variant: Variant
    features: int
    network: ImageAdapter

    def summary(self) -> str:
        """What was loaded, for people."""
        return f"{self.path.name}: IP-Adapter ({self.variant.words}), {len(self.network.names)} layers"


@dataclass(frozen=True)
class Examined:
    """A file that fits a UNet, no tensor read yet. `features`: the width that it takes of the image encoder."""

    source: WeightSource
    variant: Variant
    features: int
    layers: tuple[ImageLayer, ...]
    projection: nn.Module

    @property
    def path(self) -> Path:
        return self.source.path

    def read(self, dtype: torch.dtype) -> IPAdapter:
        """The adapter with its weights. Raises ModelError for numbers that this precision does not have."""
        source = self.source
        for name in source.names():
            if not bool(torch.isfinite(source.get(name).to(dtype)).all()):
                kind = str(dtype).removeprefix("torch.")
                raise ModelError(f"{source.path}: '{shown(name)}' has numbers too large for {kind}; take float32")
        with torch.device("meta"):
            keys = [ImageKeys(layer.channels, layer.context_dim) for layer in self.layers]
        network = ImageAdapter(self.projection, keys, [layer.module for layer in self.layers])
        fill(network, source, dtype, rename=lambda name: _ours(name, self.layers))
        return IPAdapter(source.path, self.variant, self.features, network.eval())


def examine(source: Path | str | Mapping[str, Any], unet: UNetConfig) -> Examined:
    """What the file, folder or state dict of an adapter is, for a UNet of this config.

    Raises ModelError for what is none, is half of one, is of a kind or a family that cannot be used, or holds what
    fits nowhere: by name.
    """
    opened = _opened(source)
    names = opened.names()
    if any(mark in name for mark in _OF_DUMPS for name in names):
        raise ModelError(f"{opened.path}: {_DUMP}")
    lacking = [part for part in _PARTS if not any(name.startswith(part) for name in names)]
    if len(lacking) == len(_PARTS):
        other = taken_for(opened, "ip_adapter")
        found = f"expected image_proj.* and ip_adapter.*, found {listed(names, 3) or 'nothing'}"
        raise ModelError(f"{opened.path}: is no IP-Adapter; {f'it {other}' if other else found}")
    if any(mark in name for mark in _OF_FACES for name in names):
        raise ModelError(f"{opened.path}: {_FACES}")
    if lacking:
        raise ModelError(f"{opened.path}: is half an IP-Adapter: it has no {lacking[0]}*; download the whole file")
    shapes = Shapes(opened)
    variant = next((variant for variant in VARIANTS if variant.mark in shapes.names), None)
    if variant is None and "proj.0.weight" in shapes.names:
        raise ModelError(f"{opened.path}: {_FACES}")
    if variant is None:
        raise ModelError(f"{opened.path}: is an IP-Adapter of a kind that is not known ({listed(shapes.names, 3)})")
    layers = image_layers(unet)
    _check_family(opened, layers)
    with torch.device("meta"):
        projection = variant.build(shapes)
    _check_tensors(opened, projection, layers)
    for name in names:
        if not is_finite(opened.get(name)):
            raise ModelError(f"{opened.path}: '{shown(name)}' has numbers that are not finite; download it again")
    return Examined(opened, variant, shapes.side(variant.features, 1), layers, projection)


def check_encoder(of: Examined | IPAdapter, hidden_size: int, projection_dim: int, name: str) -> None:
    """Raises ModelError for an image encoder (called `name`) of other widths than the adapter takes."""
    given = hidden_size if of.variant.states else projection_dim
    if given != of.features:
        kind = "hidden states" if of.variant.states else "embeddings"
        raise ModelError(
            f"{of.path}: takes {kind} of {of.features} numbers, and those of the image encoder {name} have {given};",
            f"give the image encoder that this {of.variant.words} adapter was made with",
        )


def _opened(source: Path | str | Mapping[str, Any]) -> WeightSource:
    if not isinstance(source, Mapping):
        with reading(whole=True):  # as of all adapters
            return open_weights(find_adapter(Path(source)))
    tensors: dict[str, Any] = {}
    for name, value in source.items():
        inner = cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {"": value}
        tensors |= {f"{name}.{leaf}".rstrip("."): tensor for leaf, tensor in inner.items()}
    stray = next((name for name, value in tensors.items() if not isinstance(value, torch.Tensor)), None)
    if stray is not None:
        raise UsageError(f"the state dict of an IP-Adapter holds {stray!r}, which is no tensor")
    return MemorySource({name: tensor.detach() for name, tensor in tensors.items()}, path=Path("the state dict"))


def _check_family(source: WeightSource, layers: tuple[ImageLayer, ...]) -> None:
    """Names of one family's files fit another's: widths alone tell."""
    keys = (name for name in source.names() if name.startswith(_PARTS[1]) and name.endswith("to_k_ip.weight"))
    theirs = next((shape[1] for key in keys if len(shape := source.shape(key)) == 2), None)
    ours = layers[0].context_dim if layers else None
    if theirs is None or ours is None or theirs == ours:
        return
    made_for, is_one = (FAMILIES_BY_WIDTH.get(width, f"text of width {width}") for width in (theirs, ours))
    raise ModelError(f"{source.path}: is made for {made_for}, and this model is for {is_one}; nothing was changed")


def _check_tensors(source: WeightSource, projection: nn.Module, layers: tuple[ImageLayer, ...]) -> None:
    expected = {f"{_PARTS[0]}{name}": tuple(tensor.shape) for name, tensor in projection.state_dict().items()}
    for layer in layers:
        for leaf in ("to_k_ip", "to_v_ip"):
            expected[f"{_PARTS[1]}{layer.number}.{leaf}.weight"] = (layer.channels, layer.context_dim)
    found = set(source.names())
    missing, unknown = [key for key in expected if key not in found], sorted(found - expected.keys())
    if missing or unknown:
        lists = ((missing, "are missing"), (unknown, "fit nowhere"))
        problems = [f"{len(names)} tensors {what} ({listed(names, 3)})" for names, what in lists if names]
        raise ModelError(
            f"{source.path}: does not fit this model: {' and '.join(problems)}.",
            "Give an adapter of the model's family, whole; nothing was changed.",
        )
    for key, shape in expected.items():
        if source.shape(key) != shape or not source.dtype(key).is_floating_point:
            kind = str(source.dtype(key)).removeprefix("torch.")
            raise ModelError(
                f"{source.path}: '{shown(key)}' has the shape {list(source.shape(key))} ({kind}), "
                f"and this model takes {list(shape)}; nothing was changed"
            )


def _ours(name: str, layers: tuple[ImageLayer, ...]) -> str:
    part, _, rest = name.partition(".")
    if part == "image_proj":
        return name
    number, _, leaf = rest.partition(".")
    place = next(i for i, layer in enumerate(layers) if str(layer.number) == number)
    return f"{part}.{place}.{leaf}"
