"""Whether a checkpoint is complete and fits its configs, told before any of its tensors is read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ModelError, listed
from ...nn import AutoencoderKL, CLIPTextModel, TinyAutoencoder, UNet2DCondition
from ..checkpoint.checkpoint import Checkpoint, Component
from ..checkpoint.layouts import Slot
from .fill import check_numbers, without_ones

_NETWORKS: Mapping[str, Callable[[Any], nn.Module]] = {
    "unet": UNet2DCondition,
    "vae": AutoencoderKL,
    "tiny_vae": TinyAutoencoder,
    "text_encoder": CLIPTextModel,
    "text_encoder_2": CLIPTextModel,
}


def empty_network(component: Component) -> nn.Module:
    """The network of a component, without memory for its weights. Raises ModelError for one that cannot be built."""
    with torch.device("meta"):
        return _NETWORKS[component.kind.name](component.config)


def check_config(checkpoint: Checkpoint, component: Component) -> None:
    """Raises ModelError when a config describes no network; one that shapes told may just be unusual."""
    try:
        component.config.check(component.kind.words)
    except ModelError as error:
        if checkpoint.source is None:
            raise
        raise ModelError(
            f"{checkpoint.path}: {error}.",
            "Its shapes do not tell everything of this unusual model: give --config "
            "FOLDER, a model folder with its configs.",
        ) from None


def check_files(checkpoint: Checkpoint, only: Slot | None = None) -> None:
    """Raises ModelError when files are not there that a folder's index speaks of."""
    missing = [file for file in checkpoint.missing if only is None or file.startswith(f"{only}/")]
    if missing:
        raise ModelError(
            f"{checkpoint.path}: has no {' and no '.join(missing)}, which its index speaks of; download it again"
        )


def check_complete(checkpoint: Checkpoint, only: Slot | None = None) -> None:
    """Raises ModelError, naming tensors, when a component lacks some, has some too many, or some of other shapes or
    kinds of numbers than its config's.

    Compared is with the network itself, built without memory for its weights; no tensor is read. A tokenizer that is
    broken, or does not fit, is a ModelError too.
    """
    check_files(checkpoint, only)
    for component in checkpoint.only(only).values():
        check_config(checkpoint, component)
        expected = _expected(component)
        _check_names(checkpoint, component, expected)
        for name, tensor in expected.items():
            _check_tensor(checkpoint, component, name, tensor)
    if only is None:
        for tokenizer in checkpoint.tokenizers.values():
            tokenizer.read()


def _expected(component: Component) -> dict[str, Tensor]:
    state: dict[str, Tensor] = empty_network(component).state_dict()
    if component.kind.name == "text_encoder_2":
        config: Any = component.config
        width = config.projected(component.kind.words)
        state["text_projection.weight"] = torch.empty(width, config.hidden_size, device="meta")
    return state


def _check_names(checkpoint: Checkpoint, component: Component, expected: Collection[str]) -> None:
    words = component.kind.words
    if component.unknown:
        raise ModelError(
            f"{checkpoint.path}: its {words} has {len(component.unknown)} tensors that are not known "
            f"({listed(component.unknown)}); check that its config belongs to it"
        )
    missing = [name for name in expected if name not in component.tensors.origins]
    if missing:
        raise ModelError(
            f"{checkpoint.path}: its {words} is incomplete, {len(missing)} tensors are missing "
            f"({listed(checkpoint.names_in_file(component, missing))}); download the model again"
        )
    for name, problem in component.tensors.unreadable.items():
        raise ModelError(f"{checkpoint.path}: the tensor '{component.tensors.name_in_file(name)}' {problem}")


def _check_tensor(checkpoint: Checkpoint, component: Component, name: str, expected: Tensor) -> None:
    check_numbers(component.tensors, name, expected)
    found = component.tensors.shape(name)
    if without_ones(found) != without_ones(expected.shape):
        raise ModelError(
            f"{checkpoint.path}: '{component.tensors.name_in_file(name)}' has the shape {list(found)} where its "
            f"{component.kind.words} needs {list(expected.shape)}; download the model again, or give --config FOLDER "
            "if its configs are others"
        )
