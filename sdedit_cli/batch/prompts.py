"""Where the prompt of each picture comes from: its row, a text beside it, its own settings; what is put around it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace

from ..disk.checks import endless_or_pipe
from ..errors import InputError, PictureError
from ..options import Layer
from .names import parted
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

    def filled(self, prompt: str, negative: str, row: Row, index: int) -> dict[str, str]:
        """The prompts with prefix and suffix around them, and the names of the picture in their {places}."""
        whole = f"{self.prefix}{prompt}{self.suffix}"
        if "{" in whole or "{" in negative:
            parent, name, stem = parted(row.name)
            facts = {"stem": stem, "name": name, "parent": parent, "index": str(index)}
            whole, negative = (_PLACES.sub(lambda found: facts[found[1]], text) for text in (whole, negative))
        return {"prompt": whole, "negative_prompt": negative}


def _of_text(row: Row) -> list[Layer]:
    path, expected = os.path.splitext(row.input)[0] + ".txt", f"expected the prompt of {parted(row.name)[1]}"
    try:
        if words := endless_or_pipe(os.stat(path), path):
            raise PictureError(f"{path}: is {words}; {expected}")
        with open(path, "rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError:
        return []
    if len(data) > _MOST_BYTES:
        raise PictureError(f"{path}: has more than {_MOST_BYTES:,} bytes; {expected}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise PictureError(f"{path}: is not UTF-8 text; {expected}") from None
    return [Layer(path, {"prompt": " ".join(text.split())})]


def _of_metadata(row: Row) -> list[Layer]:
    from ..pictures.carriers import find

    try:
        found = find(row.input).layer
    except InputError:
        return []
    return [replace(found, values={k: v for k, v in found.values.items() if k in ("prompt", "negative_prompt")})]
