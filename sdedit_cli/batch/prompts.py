"""Where the prompt of each picture comes from: its row, a text beside it, its own settings; what is put around it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import InputError, PictureError
from ..options import Edit, Layer
from .rows import Row

_MOST_BYTES = 100_000
_PLACES = re.compile(r"\{(stem|name|parent|index)\}")


@dataclass(frozen=True, slots=True)
class PromptSource:
    """`origin` is 'text', 'metadata', or None: a text beside the picture, where no prompt is `given` otherwise."""

    origin: str | None = None
    prefix: str = ""
    suffix: str = ""
    given: bool = False

    def layers(self, row: Row) -> list[Layer]:
        """What is found about the prompts of a row's picture. Raises PictureError for what cannot be read."""
        if self.origin == "metadata":
            return _of_metadata(row)
        if self.origin == "text" or not self.given:
            return _of_text(row)
        return []

    def filled(self, edit: Edit, row: Row, index: int) -> dict[str, str]:
        """The prompts of an edit with prefix and suffix around them, and the names of the picture in their {places}."""
        facts = {"stem": row.name.stem, "name": row.name.name, "parent": str(row.name.parent), "index": str(index)}

        def fill(text: str) -> str:
            return _PLACES.sub(lambda found: facts[found[1]], text)

        return {
            "prompt": fill(f"{self.prefix}{edit.prompt}{self.suffix}"),
            "negative_prompt": fill(edit.negative_prompt),
        }


def _of_text(row: Row) -> list[Layer]:
    path = Path(row.input).with_suffix(".txt")
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError:
        return []
    if len(data) > _MOST_BYTES:
        raise PictureError(f"{path}: has more than {_MOST_BYTES:,} bytes; expected the prompt of {row.name.name}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise PictureError(f"{path}: is not UTF-8 text; expected the prompt of {row.name.name}") from None
    return [Layer(os.fspath(path), {"prompt": " ".join(text.split())})]


def _of_metadata(row: Row) -> list[Layer]:
    from ..pictures.carriers import find

    try:
        found = find(row.input).layer
    except InputError:
        return []
    return [replace(found, values={k: v for k, v in found.values.items() if k in ("prompt", "negative_prompt")})]
