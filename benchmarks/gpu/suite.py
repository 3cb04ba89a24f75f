"""The tests that need a GPU (tests/cuda), by pytest: how many passed, failed and were skipped."""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from ..common.children import ROOT
from ..common.rows import Row
from .checks import check

_NEEDED = ("pytest", "hypothesis")


def run(given: argparse.Namespace) -> Iterator[Row]:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise RuntimeError(
            f"{' and '.join(missing)} not installed, so the tests cannot be run: pip install {missing[0]}"
        )
    with tempfile.TemporaryDirectory() as place:
        report = Path(place) / "report.xml"
        words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "slow or not slow"]
        done = subprocess.run(
            [*words, f"--junit-xml={report}", "tests/cuda"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        if not report.exists():
            raise RuntimeError(f"pytest ended with code {done.returncode}: {(done.stdout + done.stderr)[-500:]}")
        (suite,) = ElementTree.parse(report).getroot()
    failed = [
        case.get("name", "") for case in suite if case.find("failure") is not None or case.find("error") is not None
    ]
    skipped = sum(case.find("skipped") is not None for case in suite)
    ran = len(list(suite)) - skipped
    yield Row("tests that ran", "pytest", (ran,), "", also={"skipped": skipped})
    yield check(f"tests that failed{': ' if failed else ''}{', '.join(failed)}", "pytest", len(failed), 0)
