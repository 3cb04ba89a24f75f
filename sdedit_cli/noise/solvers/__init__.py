"""The table of all solvers, by short name. To add one: a file here, a line below, a line in `samplers.CLASS_NAMES`
and its options in `configs/scheduler.py`; the tests run over this table."""

from __future__ import annotations

from collections.abc import Mapping

from .base import Solver, State, Step
from .dpmpp import DPMPP_2M, DPMPP_2S
from .euler import EDM_EULER, EULER, EULER_A
from .pndm import PNDM
from .table import DDIM, DDPM, LCM, TCD

SOLVERS: Mapping[str, Solver] = {
    "ddim": DDIM,
    "ddpm": DDPM,
    "pndm": PNDM,
    "euler": EULER,
    "euler_a": EULER_A,
    "dpmpp_2m": DPMPP_2M,
    "dpmpp_2s": DPMPP_2S,
    "edm_euler": EDM_EULER,
    "lcm": LCM,
    "tcd": TCD,
}

__all__ = ["SOLVERS", "Solver", "State", "Step"]
