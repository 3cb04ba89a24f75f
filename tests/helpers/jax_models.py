"""The tiny models and the cases of the measurement jax-original, which the tests share with it."""

from benchmarks import jax_original

__all__ = ["jax_original"]
