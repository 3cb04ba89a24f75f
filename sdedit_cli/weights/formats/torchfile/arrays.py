"""Tensors from numpy arrays that are in a pickle itself, and bytes of the other order."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from ..shapes import is_possible
from .values import NUMPY_DTYPES, ArrayRef, BadPickle, short


def is_sound(array: ArrayRef) -> bool:
    """Whether this is an array of numbers, not of objects or text. Raises BadPickle when bytes and shape differ."""
    if array.number not in NUMPY_DTYPES:
        return False
    if not is_possible(array.shape) or prod(array.shape) * array.stored.itemsize != len(array.data):
        raise BadPickle(f"a numpy array of shape {short(array.shape)} in {len(array.data)} bytes")
    return True


def from_array(array: ArrayRef) -> Tensor:
    """The tensor of an array that is sound, in this machine's byte order."""
    if not array.data:
        return torch.empty(array.shape, dtype=array.dtype)
    flat = torch.frombuffer(bytearray(array.data), dtype=array.stored)
    if array.code.startswith(">"):
        flat = swapped(flat)
    flat = flat.to(array.dtype)
    if not array.fortran:
        return flat.view(array.shape)
    return flat.view(array.shape[::-1]).permute(*range(len(array.shape) - 1, -1, -1))


def swapped(tensor: Tensor) -> Tensor:
    """The tensor with the bytes of each of its numbers turned round."""
    width = tensor.dtype.itemsize // (2 if tensor.dtype.is_complex else 1)
    raw = tensor.contiguous().view(-1).view(torch.uint8).view(-1, width)
    return raw.flip(1).contiguous().view(-1).view(tensor.dtype).view(tensor.shape)
