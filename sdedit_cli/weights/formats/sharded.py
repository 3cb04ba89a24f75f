"""Checkpoints split over several files: `*.index.json` says which tensor is in which shard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from ...configs.base import read_json
from ...errors import ModelError, shown
from .source import WeightSource

_NAME_LIMIT = 255  # bytes, of file systems


class ShardedSource(WeightSource):
    """A WeightSource over the shards of an index; `open_shard` opens one of them. Raises ModelError on a bad index."""

    format = "shards"

    def __init__(self, path: Path, open_shard: Callable[[Path], WeightSource]) -> None:
        self.path = path
        self._shard_of = _weight_map(path)
        self._shards = {name: open_shard(path.parent / name) for name in dict.fromkeys(self._shard_of.values())}
        self.metadata = {key: value for shard in self._shards.values() for key, value in shard.metadata.items()}
        self.unreadable = {key: why for shard in self._shards.values() for key, why in shard.unreadable.items()}
        held = {name: set(shard.names()) for name, shard in self._shards.items()}
        for tensor, shard in self._shard_of.items():
            if tensor not in held[shard]:
                raise ModelError(f"{path}: says that '{shown(tensor)}' is in {shown(shard)}, where it is not")

    def names(self) -> list[str]:
        return list(self._shard_of)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._shard(name).shape(name)

    def dtype(self, name: str) -> torch.dtype:
        return self._shard(name).dtype(name)

    def get(self, name: str) -> Tensor:
        return self._shard(name).get(name)

    def _shard(self, name: str) -> WeightSource:
        try:
            return self._shards[self._shard_of[name]]
        except KeyError:
            raise ModelError(f"{self.path}: holds no tensor '{shown(name)}'") from None


def _weight_map(path: Path) -> dict[str, str]:
    weight_map = read_json(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelError(f"{path}: has no 'weight_map'; expected the index of a sharded checkpoint")
    shards = cast("dict[str, object]", weight_map)
    for shard in dict.fromkeys(str(value) for value in shards.values()):
        # An index comes with a download: it may name its neighbours and nothing else on this machine.
        is_name = Path(shard).name == shard and "\\" not in shard and shard not in ("", ".", "..")
        if not is_name or len(shard.encode(errors="surrogatepass")) > _NAME_LIMIT:
            raise ModelError(f"{path}: names the shard '{shown(shard)}', expected a file in the same folder")
        if not (path.parent / shard).is_file():
            raise ModelError(f"{path.parent / shown(shard)}: no such file, but {path.name} needs it; download it again")
    return {name: str(shard) for name, shard in shards.items()}
