"""What the check is told."""

from __future__ import annotations

import argparse
from pathlib import Path

from .parts import PARTS


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.gpu", description="Checks and measures a machine with a GPU."
    )
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu to try the check itself")
    parser.add_argument("--quick", action="store_true", help="tiny models and one round: whether it works, no numbers")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--seconds", type=float, default=480, help="for all parts together (default: 480)")
    parser.add_argument("--save", type=Path, metavar="FILE.json", help="by default results/DEVICE.json")
    return parser
