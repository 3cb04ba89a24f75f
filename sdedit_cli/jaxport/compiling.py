"""How programs are compiled, kept, and given memory."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

import jax

# On a CPU, products of half precision are computed in float32. XLA would bring all weights to that before the first of
# them, which takes twice the memory of the weights: to have more to do at once, or before a loop that needs them.
_FRUGAL = {
    "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
    "xla_disable_hlo_passes": "while-loop-invariant-code-motion,while-loop-expensive-invariant-code-motion",
}
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of mallopt


def compiled(function: Callable[..., Any], **how: Any) -> Any:
    """As `jax.jit`: compiled once for each shape of its inputs, so that it takes little memory."""
    return jax.jit(function, compiler_options=_options(), **how)


@cache
def _options() -> dict[str, Any] | None:
    if jax.default_backend() != "cpu":
        return None
    try:
        jax.jit(lambda: 0, compiler_options=_FRUGAL).lower().compile()
    except Exception:  # of an XLA that does not have it, of whatever class
        return None
    return dict(_FRUGAL)


@cache
def keep_pages() -> None:
    """Has the memory that a program lets go of stay with the process, for the next step: on a CPU each takes and frees
    what it needs anew, and fresh pages may cost more than the step."""
    if jax.default_backend() == "cpu" and sys.platform.startswith("linux"):
        with suppress(OSError, AttributeError):  # another C library
            adjust = ctypes.CDLL(None).mallopt
            adjust(_MMAP_MAX, 0)
            adjust(_TRIM_THRESHOLD, -1)


def keep_programs() -> None:
    """Has compiled programs kept on disk, in sdedit's cache unless the user has chosen a place."""
    if getattr(jax.config, "jax_compilation_cache_dir", None) is None:
        from platformdirs import user_cache_path

        with suppress(RuntimeError):  # of somebody without a home folder
            jax.config.update("jax_compilation_cache_dir", str(user_cache_path("sdedit", appauthor=False) / "jax"))
