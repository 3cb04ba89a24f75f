"""The command line under test: in this process for speed, in one of its own where imports, signals or pipes matter."""

from __future__ import annotations

import functools
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
BUILT_IN = ROOT / "sdedit_cli" / "assets" / "starter"
# The fewest steps that still go through the whole of the work, in the precision every machine has.
QUICK = ("--steps", "2", "--strength", "0.5", "--seed", "1", "--dtype", "fp32", "--device", "cpu")


def environment(**more: str) -> dict[str, str]:
    """The environment of a subprocess: without the user's own settings, one thread, and output buffered as people have
    it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SDEDIT_")}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "", **more}


def sdedit(
    *arguments: str | Path, cwd: Path, data: bytes = b"", more: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """A finished `sdedit` in a process of its own."""
    command = [sys.executable, "-m", "sdedit_cli", *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, input=data, capture_output=True, env=environment(**(more or {})), timeout=300, check=False
    )


def start(*arguments: str | Path, cwd: Path, **streams: Any) -> subprocess.Popen[bytes]:
    """A running `sdedit` in a process of its own."""
    command = [sys.executable, "-m", "sdedit_cli", *map(str, arguments)]
    return subprocess.Popen(command, cwd=cwd, env=environment(), **streams)


def events(text: str | bytes) -> list[dict[str, Any]]:
    """The events of a run's stdout; every line must be one."""
    return [json.loads(line) for line in text.splitlines()]


def photo(path: Path, size: tuple[int, int] = (64, 48), mode: str = "RGB", **options: Any) -> Path:
    """A smooth colour picture at `path`."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([x * 255 // max(1, width - 1), y * 255 // max(1, height - 1), (x + y) % 256], axis=-1)
    Image.fromarray(pixels.astype(np.uint8)).convert(mode).save(path, **options)
    return path


@functools.cache
def bomb(side: int = 20000) -> bytes:
    """A sound PNG of side x side black pixels: some kilobytes that unfold into 50 megabytes and more."""
    row = bytes(1 + side // 8)  # one bit a pixel, after the filter's number
    packer = zlib.compressobj(1)
    data = b"".join(packer.compress(row * 100) for _ in range(side // 100)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    chunks = (b"IHDR" + header, b"IDAT" + data, b"IEND")
    framed = (struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def leftovers(folder: Path) -> list[str]:
    """Names of temporary files in a folder."""
    return [path.name for path in folder.rglob("*") if path.name.endswith(".tmp")]


def one_line(text: str | bytes) -> str:
    """The message of a failed run, which must be short and no traceback."""
    words = text.decode() if isinstance(text, bytes) else text
    assert "Traceback" not in words
    lines = [line for line in words.splitlines() if line.startswith("sdedit: ")]
    assert lines
    assert len(lines[-1]) < 300
    return lines[-1]


def flat(*parts: Sequence[str]) -> list[str]:
    return [word for part in parts for word in part]
