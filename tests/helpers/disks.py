"""Disks of a test's own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def mounted(folder: Path, options: str) -> Generator[Path, None, None]:
    """A tmpfs at `folder`; the test is skipped where mounting is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


class Unlisted:
    """A listing of folders that is refused for one of them: who tests may be root, whom no system refuses."""

    def __init__(self, closed: Path, error: OSError) -> None:
        self.closed, self.error, self.real = closed, error, os.scandir

    def __call__(self, path: Any) -> Any:
        if Path(path) == self.closed:
            raise self.error
        return self.real(path)


@contextmanager
def closed_to_writers(folder: Path) -> Generator[Path, None, None]:
    """A folder that may not be written: by its mode, or for root, whom modes don't stop, by its mount."""
    if os.geteuid() == 0:
        with mounted(folder, "ro") as path:
            yield path
    else:
        folder.mkdir(mode=0o500)
        yield folder
