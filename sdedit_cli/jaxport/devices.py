"""Several devices at once, each with a part of the inputs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ..errors import UsageError
from .compiling import compiled
from .plan import Plan
from .program import Configs, Params, edited

Tree = TypeVar("Tree")
AXIS = "devices"


def replicate(tree: Tree) -> Tree:
    """Every array of a tree, such as `params`, on all devices of this machine."""
    everywhere = NamedSharding(mesh_of(jax.local_device_count()), PartitionSpec())
    return jax.device_put(tree, everywhere)


def shard(tree: Tree) -> Tree:
    """Every array of a tree with a leading axis of devices: [D * B, ...] as [D, B, ...].

    Raises UsageError when the rows do not share out evenly.
    """
    count = jax.local_device_count()

    def split(x: Any) -> Any:
        if x.shape[0] % count:
            raise UsageError(f"{x.shape[0]} rows cannot be shared out evenly on {count} devices")
        return x.reshape(count, -1, *x.shape[1:])

    return jax.tree.map(split, tree)


@cache
def mesh_of(count: int) -> Mesh:
    """The first devices of this machine. Raises UsageError when there are not so many."""
    devices = cast("list[Any]", jax.local_devices())
    if count > len(devices):
        raise UsageError(f"the inputs are sharded for {count} devices, and there are {len(devices)}; see `shard`")
    return Mesh(np.array(devices[:count]), (AXIS,))


@cache
def parallel(configs: Configs, guided: bool, count: int, stacked: bool) -> Callable[..., Array]:
    """`edited` of (params, (ids, negative, image, key, noise, guidance), plan): the inputs have a leading axis of
    devices, each of which works on its own part. `stacked`: the params have that axis too.
    """

    def part(params: Params, inputs: tuple[Any, ...], plan: Plan) -> Array:
        ids, negative, image, key, noise, guidance = unstacked(inputs)
        own = unstacked(params) if stacked else params
        return edited(configs, guided, own, ids, negative, image, key, noise, guidance, plan)[None]

    split, whole = PartitionSpec(AXIS), PartitionSpec()
    specs = (split if stacked else whole, split, whole)
    mapped = jax.shard_map(part, mesh=mesh_of(count), in_specs=specs, out_specs=split, check_vma=False)
    return compiled(mapped)


@cache
def single(configs: Configs, guided: bool) -> Callable[..., Array]:
    """The same for one device, where nothing has that axis. Compiled once for each shape of its inputs."""

    def whole(params: Params, inputs: tuple[Any, ...], plan: Plan) -> Array:
        ids, negative, image, key, noise, guidance = inputs
        return edited(configs, guided, params, ids, negative, image, key, noise, guidance, plan)

    return compiled(whole)


def is_stacked(params: Params) -> bool:
    """Whether params have a leading axis of devices, as Flax's own `replicate` gives them."""
    return params["unet"]["conv_in.bias"].ndim == 2


def unstacked(tree: Tree) -> Tree:
    """The part of the first device, without the leading axis."""

    def first(x: Any) -> Any:
        return x[0]

    return jax.tree.map(first, tree)
