"""One thread a test process: tiny models gain nothing from more, and several run side by side; no deadlines. What
properties draw is the same in every run, unless `pytest --hypothesis-profile explore` looks for more. Programs
that JAX compiled are kept for the run of the tests, shared with the processes that they start, and then removed."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is, and nothing of the code.
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# A change must not fail by what another one happened to draw.
settings.register_profile("same", settings.get_profile("explore"), derandomize=True)
settings.load_profile("same")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="sdedit-jax-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
