"""The versions of what makes pictures, without importing it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def torch_version() -> str:
    """That of torch; '' where it is not installed."""
    try:
        return version("torch")
    except PackageNotFoundError:
        return ""
