"""One part of the check in a process of its own, which writes each row as it comes: what was measured is kept whatever
follows."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from .options import arguments
from .parts import PARTS


def main(words: Sequence[str]) -> None:
    """`words`: the part, the file for its rows, and what the check was told."""
    name, rows, *rest = words
    given = arguments().parse_args(rest)
    with Path(rows).open("w", encoding="utf-8") as file:
        for row in PARTS[name].module.run(given):
            print(json.dumps(row.as_json()), file=file, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
