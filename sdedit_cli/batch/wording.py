"""The edit of each row: settings, worked out once for all rows that ask for the same, and words of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import JobFileError
from ..options import MAX_SEED, WORDS, Layer
from ..options.masks import NAMES as OF_MASKS
from .masks import MaskFolder
from .prompts import PromptSource
from .request import Request
from .rows import Row, layer_of_row

_KEYS = frozenset(name.replace("_", "-") for name in WORDS)


@dataclass(frozen=True, slots=True)
class Ways:
    """How each row gets its edit.

    `plain` makes the request of layers between those of the command and of others above all; `worded` puts words into
    one. What is `said` above the rows, they cannot change. Prompts, seeds ('same', 'index' or 'name'), masks.
    """

    plain: Callable[[Sequence[Layer], Sequence[Layer]], Request]
    worded: Callable[[Request, Mapping[str, Any]], Request]
    said: Collection[str]
    prompts: PromptSource
    seed_mode: str = "same"
    masks: MaskFolder | None = None


class Wording:
    """Makes the requests of rows below which `defaults` apply."""

    def __init__(self, ways: Ways, defaults: Layer) -> None:
        self._ways = ways
        self._defaults = defaults
        self._known: dict[tuple[object, ...], Request] = {}

    def request_of(self, row: Row, index: int) -> Request:
        """The request of the row of that number. Raises what speaks against it."""
        ways = self._ways
        below, above = self._around(row)
        own = {key: row.values[key] for key in _KEYS & row.values.keys()}
        plain = self._plain(row, own, below, above)
        edit = plain.settings
        given: dict[str, Any] = {}
        if edit.prompt_embeds is None:  # which took back the prompts that were given below it
            for layer in below:
                given |= layer.values
            given |= layer_of_row(replace(row, values=own)).values if own else {}
            given = {name: value for name, value in given.items() if name in WORDS and name not in ways.said}
            for layer in above:
                given |= layer.values
        prompt, negative = given.get("prompt", edit.prompt), given.get("negative_prompt", edit.negative_prompt)
        mode = "same" if "seed" in own else ways.seed_mode
        seed = _seed(given.get("seed", edit.seed) or 0, edit.count, row, index, mode)
        return ways.worded(plain, {"seed": seed, **ways.prompts.filled(prompt, negative, row, index)})

    def _around(self, row: Row) -> tuple[list[Layer], list[Layer]]:
        """The layers of what was found about the picture: below what the row says, and above all."""
        found = self._ways.prompts.layers(row)
        masks = self._ways.masks.layers(row) if self._ways.masks else []
        return (masks, found) if self._ways.prompts.origin is not None else ([*masks, *found], [])

    def _plain(self, row: Row, own: Mapping[str, object], below: Sequence[Layer], above: Sequence[Layer]) -> Request:
        """The request without words that are the row's own: which of them are given counts, and not what they say."""
        rest = [(key, value) for key, value in row.values.items() if key not in own]
        around = [_settings_of(layer) for layer in (*below, *above)]
        known = (row.problem, row.folder, row.text, repr(rest), *own, repr(around))
        if known not in self._known:
            own_layer = layer_of_row(row)
            request = self._ways.plain([self._defaults, *below, own_layer], above)
            if request.settings.lacks_mask and (stray := sorted(OF_MASKS & own_layer.values.keys())):
                # A cell that somebody forgot would have all of the picture edited.
                key = stray[0].replace("_", "-")
                raise JobFileError(f"{row.place}: {key} says something of a mask; give that too, as 'mask'")
            self._known[known] = request
        return self._known[known]


def _settings_of(layer: Layer) -> list[object]:
    return [name if name in WORDS else (name, value) for name, value in layer.values.items()]


def _seed(first: int, count: int, row: Row, index: int, mode: str) -> int:
    if mode == "index":
        first += (index - 1) * count
    if mode == "name":
        first += int.from_bytes(hashlib.sha256(row.name.encode("utf-8", "surrogateescape")).digest()[:4], "big")
    return first % (MAX_SEED + 1)
