"""The versions of what makes pictures, without importing it."""

from __future__ import annotations


def torch_version() -> str:
    """That of torch; '' where it is not installed."""
    from importlib.metadata import PackageNotFoundError, version  # which to import costs a check as much as 100 jobs

    try:
        return version("torch")
    except PackageNotFoundError:
        return ""
