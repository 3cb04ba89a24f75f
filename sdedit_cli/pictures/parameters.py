"""The text that web UIs and gallery tools read: prompt, negative prompt, and one line of `Key: value` pairs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ..errors import PictureError, UsageError, shown
from ..options import CURVES, Edit, Field, fields, layer_of
from .record import Found, Ingredient, Record, ingredient

# The kinds of ingredients that have a pair of their own, in which names and hashes are listed.
_LISTS = {"lora": "Lora hashes", "embedding": "TI hashes"}
_HASH_LENGTH = 10
_NEGATIVE = "Negative prompt:"
_FOREIGN = {
    "Steps": "steps",
    "Sampler": "sampler",
    "Schedule type": "schedule",
    "CFG scale": "cfg_scale",
    "Seed": "seed",
    "Denoising strength": "strength",
    "Clip skip": "clip_skip",
    "Eta": "eta",
}
# What the web UIs call "as the sampler has it".
_DEFAULT_CURVES = ("automatic", "normal", "uniform")


def parameters(record: Record) -> str:
    """The text that web UIs write and read."""
    edit = Edit(**record.edit)
    model, vae = (ingredient(kind, record.ingredients) for kind in ("model", "vae"))
    pairs = {
        "Steps": str(edit.steps_total()),
        "Sampler": record.sampler,
        "Schedule type": record.curve.replace("_", " ").capitalize(),
        "CFG scale": f"{edit.cfg_scale:.15g}",
        "Seed": str(edit.seed),
        "Size": f"{record.width}x{record.height}",
        "Model hash": model.sha256[:_HASH_LENGTH],
        "Model": model.name,
        "VAE hash": vae.sha256[:_HASH_LENGTH],
        "VAE": vae.name,
        "Denoising strength": f"{edit.strength:.15g}",
        "Clip skip": str(edit.clip_skip + 1) if edit.clip_skip else "",
        "Eta": f"{edit.eta:.15g}" if edit.eta else "",
        "Init image hash": record.input_hash[:_HASH_LENGTH],
        **{key: _listed(kind, record) for kind, key in _LISTS.items()},
        "Version": f"sdedit {record.version}".strip(),
    }
    last = ", ".join(f"{key}: {_quoted(value)}" for key, value in pairs.items() if value)
    negative = [f"{_NEGATIVE} {edit.negative_prompt}"] if edit.negative_prompt else []
    text = "\n".join([edit.prompt, *negative, last]).replace("\0", "")
    return text.encode("utf-8", "replace").decode()  # names of files can hold bytes that are no text


def _listed(kind: str, record: Record) -> str:
    return ", ".join(f"{one.name}: {one.sha256[:_HASH_LENGTH]}" for one in record.ingredients if one.kind == kind)


def parse_parameters(text: str, source: str) -> Found | None:
    """What a web UI's text says, as far as it can be used; None when it is not such a text.

    Raises PictureError for a prompt over the bounds.
    """
    *lines, last = text.replace("\r\n", "\n").strip().split("\n")
    pairs = dict(pairs_of(last))
    if len(pairs) < 3 or "Steps" not in pairs:
        return None
    split = next((i for i, line in enumerate(lines) if line.startswith(_NEGATIVE)), len(lines))
    values: dict[str, Any] = {"prompt": "\n".join(lines[:split])}
    values["negative_prompt"] = "\n".join(lines[split:]).removeprefix(_NEGATIVE).strip()
    unused: list[str] = []
    known = {field.name: field for field in fields()}
    for key, name in _FOREIGN.items():
        if key in pairs:
            values[name] = _value(known[name], pairs[key])
            if values[name] is None:
                unused.append(key)
    unused += [key for key in ("VAE", *_LISTS.values()) if pairs.get(key)]
    layer = layer_of({name: value for name, value in values.items() if value not in (None, "")}, source, PictureError)
    return Found(layer, tuple(_ingredients(pairs)), ignored=tuple(f"{key}: {shown(pairs[key])}" for key in unused))


def _value(field: Field, text: str) -> Any:
    """The value; '' for one that means the default, None for one that has no counterpart here."""
    if field.name == "schedule":
        curve = text.lower().replace(" ", "_")
        return "" if curve in _DEFAULT_CURVES else curve if curve in CURVES else None
    try:
        value = field.parse(text, field.key)
    except UsageError:
        return None
    # Web UIs count the last layer as 1.
    return (value - 1 if value > 1 else "") if field.name == "clip_skip" else value


def _ingredients(pairs: dict[str, str]) -> Iterator[Ingredient]:
    yield Ingredient("model", pairs.get("Model", ""), pairs.get("Model hash", ""))
    yield Ingredient("vae", pairs.get("VAE", ""), pairs.get("VAE hash", ""))
    for kind, key in _LISTS.items():
        for part in pairs.get(key, "").split(","):
            name, colon, sha256 = part.rpartition(":")
            if colon:
                yield Ingredient(kind, name.strip(), sha256.strip())


def pairs_of(line: str) -> Iterator[tuple[str, str]]:
    """The pairs of `Key: value, Key: "quoted, value"`, in one pass: no character is looked at more than a few times.

    A key is what stands before a colon, as far back as there are letters, digits, blanks, '_', '-' and '/'.
    """
    position = 0
    while (colon := line.find(":", position)) >= 0:
        start = colon
        while start > position and (line[start - 1].isalnum() or line[start - 1] in "_ -/"):
            start -= 1
        key = line[start:colon].lstrip(" -/").rstrip()
        position = colon + 1
        if key:
            end = _end_of_value(line, position)
            yield key, _unquoted(line[position:end].strip())
            position = end + 1


def _end_of_value(line: str, begin: int) -> int:
    """Where the comma behind a value is, or the end of the line. Commas within quotes belong to the value."""
    length, quote = len(line), begin
    while line[quote : quote + 1].isspace():
        quote += 1
    if line.startswith('"', quote):
        quote += 1
        while quote < length and line[quote] != '"':
            quote += 2 if line[quote] == "\\" else 1
        if quote < length and (quote + 1 == length or line[quote + 1] == ","):
            return quote + 1
    comma = line.find(",", begin)
    return length if comma < 0 else comma


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ',:\n"') else text


def _unquoted(text: str) -> str:
    if not text.startswith('"'):
        return text
    try:
        return str(json.loads(text))
    except ValueError:
        return text.strip('"')
