"""Rows that say whether numbers are right: how far a result is from another, and how far it may be."""

from __future__ import annotations

from typing import Any

from ..common.rows import Row

OK, WRONG = "ok", "WRONG"


def check(what: str, program: str, error: float, bound: float, unit: str = "") -> Row:
    """`error` against the largest that is right."""
    verdict = OK if error <= bound else WRONG
    return Row(what, program, (float(error),), unit, also={"bound": bound, "verdict": verdict})


def is_wrong(row: Row) -> bool:
    return row.also.get("verdict") == WRONG


def furthest(got: Any, expected: Any) -> float:
    """The largest difference as a share of the largest expected value; infinite where a number is none."""
    import torch

    difference = (got.float() - expected.float()).abs().max()
    share = float(difference / expected.float().abs().max().clamp(min=1e-6))
    return share if bool(torch.isfinite(got).all()) else float("inf")
