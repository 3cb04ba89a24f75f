"""What the driver and its workers tell each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import SdeditError
from ..worker import EditedPicture, Task


@dataclass(frozen=True, slots=True)
class Introduction:
    """Where a worker is, and the versions of what makes the pictures there."""

    node: str
    sdedit: str
    torch: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a worker loaded (see `Worker.facts`), and what users should know of it."""

    facts: Mapping[str, Any]
    warnings: Sequence[str]


@dataclass(frozen=True, slots=True)
class Order:
    """A picture to make, under the driver's number for it."""

    number: int
    task: Task


@dataclass(slots=True)
class News:
    """What happened at a worker since it was last asked.

    `steps`: the last step of each picture under way, and how many it has. `stopped`: why all that was ordered and is
    not in `ended` was given up.
    """

    ended: list[tuple[int, EditedPicture | SdeditError]] = field(
        default_factory=list[tuple[int, EditedPicture | SdeditError]]
    )
    steps: dict[int, tuple[int, int]] = field(default_factory=dict[int, tuple[int, int]])
    warnings: list[str] = field(default_factory=list[str])
    stopped: SdeditError | None = None

    @property
    def urgent(self) -> bool:
        """Whether the driver should hear it at once: there is room for more, or nothing goes on."""
        return bool(self.ended) or self.stopped is not None
