"""Where the numbers of a network lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

_Holder = dict[str, Any]


@dataclass(frozen=True)
class Storage:
    """The addresses of all parameters and buffers of a network, as they were."""

    network: nn.Module
    holders: tuple[tuple[_Holder, str], ...]
    places: tuple[int, ...]

    @classmethod
    def of(cls, network: nn.Module) -> Storage:
        tables = [table for module in network.modules() for table in (module._parameters, module._buffers)]  # pyright: ignore[reportPrivateUsage] -- going through modules anew takes longer than a step's other work
        holders = tuple((table, name) for table in tables for name, tensor in table.items() if tensor is not None)
        return cls(network, holders, _places(holders))

    def is_where_it_was(self, network: nn.Module) -> bool:
        """Whether `network` is the same one, with every tensor at its address."""
        return network is self.network and _places(self.holders) == self.places


def _places(holders: tuple[tuple[_Holder, str], ...]) -> tuple[int, ...]:
    found: list[int] = []
    for table, name in holders:
        tensor: Tensor | None = table.get(name)
        found.append(0 if tensor is None else tensor.data_ptr())
    return tuple(found)
