"""What a rank could not hold, module by module, for people and programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

from ..render import plain

if TYPE_CHECKING:
    from ...adapters.dialects import Module
    from ...adapters.lowrank import Cut

SCHEMA = "sdedit.lora/1"


@dataclass(frozen=True)
class Loss:
    """A module's rank, the norm of its change, and the share of it that is missing (0: none)."""

    component: str
    module: str
    rank: int
    norm: float
    error: float

    @classmethod
    def of(cls, module: Module, cut: Cut) -> Loss:
        return cls(*module, cut.down.shape[0], cut.norm, cut.error)


def tell(losses: Sequence[Loss], lines: Sequence[str], *, as_json: bool, verbose: bool, **more: object) -> None:
    """Lines on stderr, and what was lost: with `as_json` an object on stdout, else a table by blocks, or by modules."""
    for line in lines:
        click.echo(plain(line), err=True)
    if as_json:
        modules = [asdict(loss) for loss in losses]
        click.echo(json.dumps({"schema": SCHEMA, **more, "error": whole(losses), "modules": modules}))
    elif losses:
        click.echo(f"rank {span([loss.rank for loss in losses])}; {whole(losses):.2%} of the change is lost", err=True)
        for row in table(losses, verbose=verbose):
            click.echo(row)


def whole(losses: Sequence[Loss]) -> float:
    """The share of the norm of all modules together that is missing."""
    total = sum(loss.norm**2 for loss in losses)
    return (sum((loss.norm * loss.error) ** 2 for loss in losses) / total) ** 0.5 if total else 0.0


def span(ranks: Sequence[float]) -> str:
    """'4', or '4 to 32'."""
    low, high = min(ranks), max(ranks)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def table(losses: Sequence[Loss], *, verbose: bool) -> list[str]:
    """A row for each block, or with `verbose` for each module: its ranks, the norm of its change, the lost share."""
    from ...adapters.blocks import block_of, place

    groups: dict[tuple[str, str], list[Loss]] = {}
    for loss in losses:
        groups.setdefault((loss.component, loss.module if verbose else block_of(loss.module)), []).append(loss)
    ordered = sorted(groups.items(), key=lambda group: (group[0][0] != "unet", () if verbose else place(group[0][1])))
    rows = [("module" if verbose else "block", "rank", "norm", "lost")]
    for (component, name), own in ordered:
        label = f"text {name}" if component == "text_encoder" and not verbose else name
        norm = sum(loss.norm**2 for loss in own) ** 0.5
        rows.append((label, span([loss.rank for loss in own]), f"{norm:.3g}", f"{whole(own):.2%}"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return [f"  {a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}" for a, b, c, d in rows]
