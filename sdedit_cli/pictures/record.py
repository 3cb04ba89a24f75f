"""What a picture says of the edit that made it: the facts, and the exact JSON block from which an edit is replayed.

There are no times and no paths in it, so equal edits give equal bytes.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from ..errors import PictureError, shown
from ..options import KINDS, MAX_DOCUMENT, MAX_ITEMS, Layer, fields, layer_of

SCHEMA = "sdedit.edit/1"
# Every block has these two; further ingredients are listed when there are some.
_ALWAYS = ("model", "vae")
# What an ingredient has besides its name and hash.
_MORE = {
    "scale": KINDS[float],
    "te_scale": KINDS[float],
    "blocks": KINDS[str],
    "dyn": KINDS[int],
    "payload": KINDS[str],
}


@dataclass(frozen=True, slots=True)
class Ingredient:
    """A file that took part: what it is ('model', 'vae', 'lora', ...), its name, the start of its SHA-256, its scale.

    The name is never a path; '' stands for the model's own, as '' does for a hash that is not known. Of a LoRA also the
    hash that web UIs know it by (`disk.hashes.payload_hash`), and what `options.adapters.LoraFile` has of strengths.
    """

    kind: str
    name: str = ""
    sha256: str = ""
    scale: float | None = None
    te_scale: float | None = None
    blocks: str = ""
    dyn: int | None = None
    payload: str = ""


def ingredient(kind: str, among: Iterable[Ingredient]) -> Ingredient:
    """The first ingredient of a kind; one without a name when there is none."""
    return next((one for one in among if one.kind == kind), Ingredient(kind))


@dataclass(frozen=True, slots=True)
class Record:
    """The facts written into a picture. `edit` is `Edit.saved()` with the seed that was used.

    `sampler` and `curve` name what ran, also where the edit left the choice to the model; hashes are SHA-256 in hex.
    `made_on` says what the last bits depend on besides: versions, kind of device, threads; never which machine it was.
    """

    edit: Mapping[str, Any]
    width: int
    height: int
    ingredients: tuple[Ingredient, ...] = ()
    input_hash: str = ""
    sampler: str = ""
    curve: str = ""
    version: str = ""
    made_on: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Found:
    """What a picture was found to say: the layer of its edit, and what it was made of.

    `exact` tells our own block from a text of another tool, whose `program` is told where that is known; `ignored`
    lists what of it is not taken over, beside the ingredients. `made_on` is the record's, with our version under
    'sdedit'.
    """

    layer: Layer
    ingredients: tuple[Ingredient, ...] = ()
    input_hash: str = ""
    exact: bool = False
    ignored: tuple[str, ...] = ()
    made_on: Mapping[str, str] = field(default_factory=dict[str, str])
    program: str = ""

    def left_out(self, taken: Collection[Ingredient]) -> tuple[str, ...]:
        """All that is not taken over, where of the adapters these are."""
        left = [one for one in self.ingredients if one.kind not in _ALWAYS and one not in taken]
        return (*self.ignored, *(f"{one.kind}: {shown(one.name)}" for one in left))

    @property
    def model(self) -> Ingredient:
        return ingredient("model", self.ingredients)

    @property
    def vae(self) -> Ingredient:
        return ingredient("vae", self.ingredients)


def block(record: Record) -> str:
    """The exact block: ASCII JSON on one line, keys sorted."""
    facts: dict[str, Any] = {
        "schema": SCHEMA,
        "version": record.version,
        "edit": dict(record.edit),
        "input": {"sha256": record.input_hash, "width": record.width, "height": record.height},
        "sampler": {"name": record.sampler, "curve": record.curve},
    }
    for kind in _ALWAYS:
        one = ingredient(kind, record.ingredients)
        facts[kind] = {"name": one.name, "sha256": one.sha256}
    if record.made_on:
        facts["made_on"] = dict(record.made_on)
    if more := [_listed(one) for one in record.ingredients if one.kind not in _ALWAYS]:
        facts["ingredients"] = more
    return json.dumps(facts, sort_keys=True, separators=(",", ":"))


def _listed(one: Ingredient) -> dict[str, Any]:
    more = {name: value for name in _MORE if (value := getattr(one, name)) not in (None, "")}
    return {"kind": one.kind, "name": one.name, "sha256": one.sha256, **more}


def parse_block(text: str, source: str) -> Found:
    """What an exact block says. Raises PictureError when it is damaged, too long, or of a schema we do not know.

    A picture is not a command: the options that it may not set are left out, and listed.
    """
    if len(text) > MAX_DOCUMENT:
        raise PictureError(
            f"{source}: its sdedit block has {len(text):,} characters; expected at most {MAX_DOCUMENT:,}"
        )
    try:
        loaded: Any = json.loads(text)
        _check_schema(loaded["schema"], source)
        edit = _table(loaded["edit"])
        made_of = tuple(_ingredient({**_table(loaded[kind]), "kind": kind}) for kind in _ALWAYS)
        made_of += tuple(_ingredient(_table(one)) for one in loaded.get("ingredients", ())[:MAX_ITEMS])
        input_hash = KINDS[str].fit(loaded["input"]["sha256"])
        made_on = {"sdedit": loaded.get("version", ""), **_table(loaded.get("made_on", {}))}
        made_on = {key: KINDS[str].fit(value) for key, value in list(made_on.items())[:MAX_ITEMS]}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise PictureError(f"{source}: its sdedit block is damaged") from None
    refused = {f.name: f.key for f in fields() if not f.option.in_picture}
    names = {word: word.replace("-", "_") for word in edit}
    layer = layer_of({word: edit[word] for word in edit if names[word] not in refused}, source, PictureError)
    ignored = [f"{refused[name]}: {shown(edit[word])}" for word, name in names.items() if name in refused]
    return Found(layer, made_of, input_hash, exact=True, ignored=tuple(ignored), made_on=made_on)


def _check_schema(schema: object, source: str) -> None:
    if schema != SCHEMA:
        known = f"this version reads {SCHEMA}"
        raise PictureError(f"{source}: its settings are of the schema '{shown(schema)}', and {known}")


def _table(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError
    return cast("dict[str, object]", value)


def _ingredient(table: Mapping[str, object]) -> Ingredient:
    kind, name, sha256 = (KINDS[str].fit(table[key]) for key in ("kind", "name", "sha256"))
    more = {key: kinds.fit(table[key]) for key, kinds in _MORE.items() if table.get(key) is not None}
    return Ingredient(kind, name, sha256, **more)
