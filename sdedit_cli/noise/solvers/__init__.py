"""The table of all solvers, by short name. To add one: a file here, a line below, a line in `samplers.CLASS_NAMES`
and its options in `configs/scheduler.py`; the tests run over this table."""

from __future__ import annotations

from collections.abc import Mapping

from .base import Solver, State, Step
from .deis import DEIS
from .dpmpp import DPMPP_2M, DPMPP_2S
from .dpmpp_sde import DPMPP_SDE
from .euler import EDM_EULER, EULER, EULER_A
from .lms import LMS
from .pndm import PNDM
from .second_order import HEUN, KDPM2, KDPM2_A
from .table import DDIM, DDPM, LCM, TCD
from .unipc import UNIPC

SOLVERS: Mapping[str, Solver] = {
    "ddim": DDIM,
    "ddpm": DDPM,
    "pndm": PNDM,
    "lms": LMS,
    "euler": EULER,
    "euler_a": EULER_A,
    "heun": HEUN,
    "kdpm2": KDPM2,
    "kdpm2_a": KDPM2_A,
    "dpmpp_2m": DPMPP_2M,
    "dpmpp_2s": DPMPP_2S,
    "dpmpp_sde": DPMPP_SDE,
    "deis": DEIS,
    "unipc": UNIPC,
    "edm_euler": EDM_EULER,
    "lcm": LCM,
    "tcd": TCD,
}

__all__ = ["SOLVERS", "Solver", "State", "Step"]
