"""From checkpoints of any kind to the components of the JAX pipeline and their arrays."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import jax.numpy as jnp
import numpy as np
import torch
from jax import Array
from torch import Tensor

from ..configs.base import read_json
from ..configs.vae import TinyVAEConfig
from ..errors import ModelError
from ..noise import Scheduler
from ..weights.checkpoint.checkpoint import Checkpoint, Component, check_runnable, check_together
from ..weights.checkpoint.weight_files import find_weights
from ..weights.formats.open import open_weights
from ..weights.formats.source import WeightSource
from ..weights.load.check import check_complete, empty_network
from .networks import Network, SafetyChecker

NETWORKS = ("vae", "text_encoder", "unet")


@dataclass(frozen=True)
class Loaded:
    """The components of a checkpoint, and the arrays of those that have some."""

    components: Mapping[str, Any]
    params: dict[str, dict[str, Array]]
    native_size: int | None


def load(checkpoint: Checkpoint, dtype: jnp.dtype, skip: Collection[str] = ()) -> Loaded:
    """What a pipeline is made of, but for the components in `skip`. Raises ModelError for what cannot be run."""
    check_runnable(checkpoint)
    for name in NETWORKS:
        if name not in skip and name not in checkpoint.components:
            raise ModelError(f"{checkpoint.path}: has no {name}, which every edit needs; give a complete checkpoint")
    check_complete(checkpoint)
    check_together(checkpoint, skip)
    found: dict[str, Any] = {}
    params: dict[str, dict[str, Array]] = {}
    for name in NETWORKS:
        if name not in skip:
            found[name], params[name] = network_of(checkpoint, name, dtype)
    if "tokenizer" not in skip:
        found["tokenizer"] = checkpoint.tokenizer()
    if "scheduler" not in skip:
        if checkpoint.scheduler is None:
            raise ModelError(f"{checkpoint.path}: has no scheduler; give one as `scheduler=`")
        found["scheduler"] = Scheduler.of_checkpoint(checkpoint.scheduler, checkpoint.scheduler_said_by)
    if "safety_checker" not in skip and "safety_checker" in checkpoint.extras:
        found["safety_checker"], params["safety_checker"] = load_checker(checkpoint.extras["safety_checker"], dtype)
    if "feature_extractor" not in skip and "feature_extractor" in checkpoint.extras:
        found["feature_extractor"] = load_feature_extractor(checkpoint.extras["feature_extractor"])
    return Loaded(found, params, checkpoint.native_size)


def network_of(checkpoint: Checkpoint, name: str, dtype: jnp.dtype) -> tuple[Network[Any], dict[str, Array]]:
    """A network of a checkpoint and its arrays, by the names of `nn`. Raises ModelError for an autoencoder of TAESD."""
    component: Component = checkpoint.components[cast(Any, name)]
    if isinstance(component.config, TinyVAEConfig):
        raise ModelError(f"{checkpoint.path}: its autoencoder is a tiny one, which JAX does not run; give another VAE")
    shapes = {key: tuple(tensor.shape) for key, tensor in empty_network(component).state_dict().items()}
    return Network(component.config), arrays_of(component.tensors, shapes, dtype)


def arrays_of(source: WeightSource, shapes: Mapping[str, tuple[int, ...]], dtype: jnp.dtype) -> dict[str, Array]:
    """The tensors of a source in these shapes: files hold a linear layer also as a 1x1 convolution."""
    arrays: dict[str, Array] = {}
    for name, shape in shapes.items():
        arrays[name] = as_array(source.get(name).reshape(shape), dtype)
        source.release(name)
    return arrays


def as_array(tensor: Tensor, dtype: jnp.dtype) -> Array:
    """A tensor's values on the default device, rounded once."""
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()  # numpy has no such numbers; each of them is one of float32
    return jnp.asarray(tensor.numpy(), dtype=dtype)


def as_tensor(array: Any) -> Tensor:
    """An array's values as a tensor of the same precision."""
    values = cast("np.ndarray[Any, Any]", np.array(array))
    if values.dtype == jnp.bfloat16:
        return torch.from_numpy(values.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(values)


def load_checker(folder: Path, dtype: jnp.dtype) -> tuple[SafetyChecker, dict[str, Array]]:
    """The checker of a `safety_checker` folder and its arrays. Raises ModelError when its config does not fit."""
    source = open_weights(find_weights(folder))
    checker = SafetyChecker(read_json(folder / "config.json"))
    arrays: dict[str, Array] = {}
    for name in source.names():
        tensor = source.get(name)
        module, _, leaf = name.rpartition(".")
        if leaf == "position_ids":
            continue
        if leaf == "kernel":
            tensor = tensor.permute(3, 2, 0, 1) if tensor.ndim == 4 else tensor.t()
        leaf = "weight" if leaf in ("kernel", "scale", "embedding") else leaf
        # Releases of the libraries that write it differ in how often they repeat the tower's name.
        while module.startswith("vision_model.vision_model"):
            module = module.removeprefix("vision_model.")
        arrays[f"{module}.{leaf}" if module else leaf] = as_array(tensor, dtype)
    return checker, arrays


def load_feature_extractor(folder: Path) -> Any:
    """transformers' CLIP picture preparation as the folder describes it."""
    import transformers

    # The one of Pillow, where releases have two.
    kind: Any = getattr(transformers, "CLIPImageProcessorPil", None) or transformers.CLIPImageProcessor
    return kind.from_pretrained(str(folder))
