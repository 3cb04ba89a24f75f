"""The UNet's step as a captured graph: its some five hundred kernels start as one, without a word from Python.

A graph holds addresses. What goes into a step is copied to where the graph reads it; weights are read where they lie,
so that adapters, which write them in place, need no other graph. Whatever else is fixed by the capture (shapes, FreeU,
scales of image prompts, edges that meet, operations) is part of a graph's key, and weights that lie elsewhere end all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ..nn import Context, FreeU, UNet2DCondition
from .storage import Storage

_MOST = 4
"""Graphs at a time: their intermediate results share memory, their inputs do not."""
_MOST_SEEN = 64

Key = tuple[object, ...]


class Recording(Protocol):
    """What a recorder has captured."""

    def replay(self) -> Tensor:
        """The work once more, into the same memory: what is there is overwritten by the next replay."""
        ...


class Recorder(Protocol):
    """What captures a work on a kind of device."""

    kind: str

    def record(self, work: Callable[[], Tensor], device: torch.device) -> Recording:
        """Has the work done, and captured. Raises what the work or the capture raises."""
        ...

    def release(self) -> None:
        """Gives back the memory that recordings shared; none of them is replayed any more."""
        ...


@dataclass
class _Held:
    """A recording with the inputs that it reads. `source` is the context whose numbers are in `context`."""

    x_NCHW: Tensor
    emb_NE: Tensor
    context: Context
    recording: Recording
    source: Context

    def run(self, x_NCHW: Tensor, emb_NE: Tensor, context: Context) -> Tensor:
        self.x_NCHW.copy_(x_NCHW)
        self.emb_NE.copy_(emb_NE)
        if context is not self.source:
            for mine, other in zip(self.context.tensors(), context.tensors(), strict=True):
                mine.copy_(other)
            self.source = context
        # Solvers keep what the model said, and the next replay overwrites it.
        return self.recording.replay().clone()


class Graphs:
    """A way for `UNet2DCondition.way`: the first step of a shape is run as it is, the second is recorded.

    A work that cannot be recorded is run as it is from then on, and told of once. `tell` gets words for people.
    """

    def __init__(self, recorder: Recorder, tell: Callable[[str], None] | None = None, most: int = _MOST) -> None:
        self.recorder = recorder
        self.tell = tell
        self.most = most
        self._held: dict[Key, _Held] = {}
        self._seen: dict[Key, bool] = {}
        """Keys that have run, and whether they can be recorded."""
        self._storage: Storage | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Graphs:
        """A copy of a network has other weights, so it begins without graphs."""
        return Graphs(type(self.recorder)(), self.tell, self.most)

    def __reduce__(self) -> tuple[Any, ...]:
        """So does one that comes from a pickle, as graphs belong to a process."""
        return Graphs, (type(self.recorder)(), self.tell, self.most)

    def __call__(
        self,
        unet: UNet2DCondition,
        x_NCHW: Tensor,
        emb_NE: Tensor,
        context: Context,
        freeu: FreeU | None = None,
        *more: Any,
    ) -> Tensor:
        if torch.is_grad_enabled() or x_NCHW.device.type != self.recorder.kind or _is_more(more):
            return unet(x_NCHW, emb_NE, context, freeu, *more)
        if self._storage is None or not self._storage.is_where_it_was(unet):
            self.release()
            self._storage = Storage.of(unet)
        key = _key(unet, x_NCHW, emb_NE, context, freeu)
        held = self._held.pop(key, None) or self._recorded(key, unet, x_NCHW, emb_NE, context, freeu)
        if held is None:
            return self._as_it_is(unet, x_NCHW, emb_NE, context, freeu)
        self._held[key] = held
        while len(self._held) > self.most:
            del self._held[next(iter(self._held))]
        return held.run(x_NCHW, emb_NE, context)

    def release(self) -> None:
        """Lets all graphs go, and the memory that they had."""
        if self._held:
            self._held.clear()
            self.recorder.release()
        self._seen.clear()

    def _recorded(
        self,
        key: Key,
        unet: UNet2DCondition,
        x_NCHW: Tensor,
        emb_NE: Tensor,
        context: Context,
        freeu: FreeU | None,
    ) -> _Held | None:
        """A recording of a step; None where the shape is new, or cannot be recorded."""
        if not self._seen.get(key, False):
            self._seen.setdefault(key, True)
            while len(self._seen) > _MOST_SEEN:
                del self._seen[next(iter(self._seen))]
            return None
        x_NCHW, emb_NE, fixed = x_NCHW.clone(), emb_NE.clone(), context.cloned()
        try:
            recording = self.recorder.record(lambda: unet(x_NCHW, emb_NE, fixed, freeu), x_NCHW.device)
        except Exception as problem:
            self._seen[key] = False
            if isinstance(problem, torch.OutOfMemoryError):
                self._held.clear()
                self.recorder.release()
            if self.tell is not None:
                self.tell(f"steps are run one kernel at a time, as they could not be captured: {_first_line(problem)}")
            return None
        return _Held(x_NCHW, emb_NE, fixed, recording, context)

    def _as_it_is(self, unet: UNet2DCondition, *given: Any) -> Tensor:
        try:
            return unet(*given)
        except torch.OutOfMemoryError:
            if not self._held:
                raise
            self.release()
        return unet(*given)


def _key(unet: UNet2DCondition, x_NCHW: Tensor, emb_NE: Tensor, context: Context, freeu: FreeU | None) -> Key:
    """Whatever a capture fixes beside the places of the weights."""
    inputs = [(tuple(tensor.shape), tensor.dtype, tensor.device) for tensor in (x_NCHW, emb_NE)]
    return (*inputs, *context.shape, freeu, unet.conv_in.wrap, *vars(unet.ops).values())


def _is_more(arguments: tuple[Any, ...]) -> bool:
    """Whether a step is asked for more than a recording knows of."""
    return any(argument is not None for argument in arguments)


def _first_line(problem: Exception) -> str:
    return (str(problem).strip() or type(problem).__name__).splitlines()[0]
