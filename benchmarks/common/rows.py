"""A measurement: what was done, by which program, and the values of its rounds."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from typing import Any

OURS = "sdedit"


@dataclass(frozen=True)
class Row:
    """`values`: one number in `unit` for each round. `flops`: the floating point operations that one value took, and
    `dtype` the precision whose limit they are held against. `also`: other numbers of the same work, by name."""

    what: str
    program: str
    values: tuple[float, ...]
    unit: str = "s"
    flops: float | None = None
    dtype: str | None = None
    also: dict[str, float | str] = field(default_factory=dict)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """From the least to the most of the rounds, as a share of the median; 0 of one round."""
        return (max(self.values) - min(self.values)) / abs(self.median) if self.median else 0.0

    @property
    def rate(self) -> float | None:
        """FLOP/s, where they were counted."""
        return self.flops / self.median if self.flops and self.unit == "s" and self.median else None

    def share(self, limits: dict[str, float]) -> float | None:
        """The rate as a share of the machine's, by `limits` in FLOP/s of each dtype."""
        limit = limits.get(self.dtype or "")
        return self.rate / limit if self.rate and limit else None

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "median": self.median, "spread": self.spread}

    @classmethod
    def from_json(cls, said: dict[str, Any]) -> Row:
        known = {name: value for name, value in said.items() if name not in ("median", "spread")}
        return cls(**{**known, "values": tuple(said["values"])})


def beside(rows: list[Row], row: Row) -> float | None:
    """How many times ours a row's median is; None where ours did not do the same, and of ours."""
    ours = next((one for one in rows if one.what == row.what and one.program == OURS), None)
    return row.median / ours.median if ours and ours is not row and ours.median else None
