"""The tiny models and the cases of benchmarks/jax_original.py, which the tests share with it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

_PATH = Path(__file__).parents[2] / "benchmarks" / "jax_original.py"


def _module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("jax_original", _PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["jax_original"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


jax_original = _module()
