"""The switches of a pipeline: memory for time, kernels, FreeU. Each is undone by its opposite, bit for bit.

None touches a weight's value: attention is an entry of the network's own table of operations, slicing and tiling are
a value that the autoencoder reads, FreeU is a value of the conditioning, fused projections are another storage
of the same numbers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..adapters.strengths import is_strength
from ..engine.components import VAE
from ..engine.engine import Engine
from ..errors import UsageError, WrongTypeError, shown
from ..nn import CLIPTextModel, FreeU, UNet2DCondition
from ..nn.fuse import fuse_qkv, unfuse_qkv
from ..runtime.attention import Slicing, attention_for, set_attention
from ..runtime.device import pick
from ..runtime.equip import equip, place, widen
from ..runtime.memory import Offload
from .arguments import check_retired
from .components import as_dtype
from .words import arguments_named

_IDLE = ("silence_dtype_warnings", "non_blocking", "memory_format")
"""Keywords of `to` that ask for nothing here."""


class Switches:
    """What `StableDiffusionImg2ImgPipeline` has turned on."""

    unet: UNet2DCondition
    vae: VAE
    text_encoder: CLIPTextModel | None

    @property
    def engine(self) -> Engine:
        """What does the work, over the components as they are now."""
        raise NotImplementedError

    def __init__(self) -> None:
        self._slicing: Slicing | None = None
        self._xformers = False
        self._xformers_op: Any = None
        self._freeu: FreeU | None = None
        self._offload: Offload | None = None

    @property
    def device(self) -> torch.device:
        """Where edits are computed."""
        return self.engine.device

    def enable_attention_slicing(self, slice_size: Slicing = "auto") -> None:
        """Attention a few heads at a time: 'auto' half of them, 'max' one (least memory), or a number.

        Raises UsageError when a layer has fewer heads than the number.
        """
        attention_for(self.unet, slice_size)
        self._slicing = slice_size
        self._set_attention()

    def disable_attention_slicing(self) -> None:
        self._slicing = None
        self._set_attention()

    def enable_xformers_memory_efficient_attention(self, attention_op: Any = None) -> None:
        """xformers' kernel (with `attention_op` as its op) in place of torch's; it wins over slicing.

        Raises UsageError when xformers or a CUDA device is absent.
        """
        attention_for(self.unet, xformers=True, op=attention_op)
        self._xformers, self._xformers_op = True, attention_op
        self._set_attention()

    def disable_xformers_memory_efficient_attention(self) -> None:
        self._xformers, self._xformers_op = False, None
        self._set_attention()

    def _set_attention(self) -> None:
        set_attention(self.unet, self.vae, self._slicing, self._xformers, self._xformers_op)
        self.equip()

    def move(self, *args: Any, device: Any = None, dtype: Any = None, **others: Any) -> None:
        """What `to` of the pipeline does. Raises UsageError for a device that is not there, two of a kind and unknown
        keywords, WrongTypeError for what is neither a device nor a precision."""
        check_retired([name for name in others if name not in _IDLE], self.move)
        precision = _only("dtype", *(one for one in args if isinstance(one, torch.dtype)), dtype)
        named = _only("device", *(one for one in args if not isinstance(one, torch.dtype)), device)
        # Both are looked at before anything moves.
        wanted = None if precision is None else as_dtype(precision, "dtype")
        target = None if named is None else _picked(named)
        if target is not None:
            self.end_offload()
        networks = self.engine.networks()
        if target is not None:
            place(networks, target)
        for network in networks:
            network.to(wanted)
        self.equip()

    def equip(self) -> None:
        """Has networks compute as is best where edits are computed now."""
        for network in (self.unet, self.vae):
            equip(network, self.device, graphs=self._offload is None)
        if self.text_encoder is not None:
            widen(self.text_encoder, self.device)

    def enable_vae_slicing(self) -> None:
        """Pictures of a batch go through the autoencoder one by one."""
        self.vae.enable_slicing()

    def disable_vae_slicing(self) -> None:
        self.vae.disable_slicing()

    def enable_vae_tiling(self) -> None:
        """Large pictures go through the autoencoder in overlapping tiles: far less memory, slightly other pixels."""
        self.vae.enable_tiling()

    def disable_vae_tiling(self) -> None:
        self.vae.disable_tiling()

    def enable_freeu(self, s1: float, s2: float, b1: float, b2: float) -> None:
        """FreeU (arXiv 2309.11497): `s1, s2` damp the skips of the two lowest levels, `b1, b2` raise the backbone."""
        given = {"s1": s1, "s2": s2, "b1": b1, "b2": b2}
        for name, value in given.items():
            if not is_strength(value):
                raise UsageError(f"{name} is {value!r}; expected a finite number")
        self._freeu = FreeU(**given)

    def disable_freeu(self) -> None:
        self._freeu = None

    def fuse_qkv_projections(self, unet: bool = True, vae: bool = True) -> None:
        """Joins the query, key and value projections of each attention layer into one matrix product."""
        for model in self._chosen(unet, vae):
            fuse_qkv(model)

    def unfuse_qkv_projections(self, unet: bool = True, vae: bool = True) -> None:
        for model in self._chosen(unet, vae):
            unfuse_qkv(model)

    def _chosen(self, unet: bool, vae: bool) -> list[nn.Module]:
        return [model for model, wanted in ((self.unet, unet), (self.vae, vae)) if wanted]

    @arguments_named()
    def enable_model_cpu_offload(self, gpu_id: int | None = None, device: torch.device | str | None = None) -> None:
        """Keeps the networks in main memory and brings each to the device ('cuda' for None) only while it runs.

        Raises UsageError when the device is not there.
        """
        device = "cuda" if device is None else device
        name = str(device) if gpu_id is None or ":" in str(device) else f"{device}:{gpu_id}"
        place = pick(name)
        self.end_offload()
        self._offload = self.engine.offloaded(place).offload
        self.equip()

    def end_offload(self) -> None:
        """Networks stay where they are put again."""
        self.engine.release()
        self._offload = None


def _only(kind: str, *given: object) -> object:
    """The one that is not None, None where all are. Raises UsageError for several."""
    told = [one for one in given if one is not None]
    if len(told) > 1:
        raise UsageError(f"`to` was given {' and '.join(map(shown, told))}; expected one {kind}")
    return told[0] if told else None


def _picked(value: object) -> torch.device:
    """The device. A bare number is the index of a GPU, as torch has it."""
    if isinstance(value, (str, torch.device)):
        return pick(str(value))
    if type(value) is int:
        return pick(f"cuda:{value}")
    raise WrongTypeError(
        f"`to` was given {shown(value)}; expected a device ('cuda', 'cpu' or the number of a GPU) or a torch.dtype"
    )
