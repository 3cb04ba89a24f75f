"""CUDA's recorder of graphs. No GPU has run it yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class _Captured:
    graph: Any
    out: Tensor
    device: torch.device

    def replay(self) -> Tensor:
        with torch.cuda.device(self.device):
            self.graph.replay()
        return self.out


class CudaRecorder:
    """Captures on a stream of its own; all graphs of a recorder have their intermediate results in one pool.

    That is safe as they are replayed one after the other on one stream, and what they say is copied at once.
    """

    kind = "cuda"

    def __init__(self) -> None:
        self._pool: Any = None

    def record(self, work: Callable[[], Tensor], device: torch.device) -> _Captured:
        with torch.cuda.device(device):
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            # What is made when first used (handles, workspaces, plans, compiled kernels) must be there beforehand.
            with torch.cuda.stream(stream):
                work()
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            if self._pool is None:
                self._pool = torch.cuda.graph_pool_handle()
            # Other threads read and write pictures meanwhile, and may ask the driver for pinned memory.
            with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
                out = work()
        return _Captured(graph, out, device)

    def release(self) -> None:
        self._pool = None
        torch.cuda.empty_cache()
