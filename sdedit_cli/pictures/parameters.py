"""The text that web UIs and gallery tools read: prompt, negative prompt, and one line of `Key: value` pairs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import PictureError, UsageError, shown
from ..options import CURVES, Edit, Field, fields, layer_of
from .record import Found, Ingredient, Record, ingredient

# The kinds of ingredients that have a pair of their own, in which names and hashes are listed.
_LISTS = {"lora": "Lora hashes", "embedding": "TI hashes"}
_HASH_LENGTH = 10
_LISTED_HASH_LENGTH = 12
_NEGATIVE = "Negative prompt:"
# How many pairs make a text one of settings.
_FEWEST = 3
_STEPS = re.compile(r"(?<![\w\"])Steps:\s*[0-9]")
_FIRST_KEY = re.compile(r"[\w /-]{1,60}:")
_COLON_OR_BREAK = re.compile(r"[:\n]")
_COMMA_OR_BREAK = re.compile(r"[,\n]")
_BLANKS = (" ", "\t")
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
# What the web UIs call "as the sampler has it", and "as the model has it".
_DEFAULT_CURVES = ("automatic", "normal", "uniform", "default")
_DEFAULT_SAMPLERS = ("default",)
# Pairs that shaped nothing, or that are said elsewhere; so are all hashes.
_TOLD_ELSEWHERE = (
    *("Size", "Version", "App", "RNG", "Parser", "Backend", "Pipeline", "User", "Created Date", "Model", "Template"),
    *("Negative Template", "Wildcard prompt", "Wildcard negative prompt", "Hashes"),
)
_HASH = re.compile(r"\b[Hh]ash(es)?$")
_OFF = ("", "none", "false", "0", "0.0")
# A text may have any number of pairs.
_MOST_TOLD = 40


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
        "Tile": edit.tile or "",
        # What web UIs call so has edges that meet, and no tiles.
        "Tiling": "True" if edit.seamless else "",
        "Strokes": str(edit.strokes) if edit.strokes else "",
        **_of_rounds(edit),
        **_of_mask(edit, record),
        "Init image hash": record.input_hash[:_HASH_LENGTH],
        **{key: _listed(kind, record) for kind, key in _LISTS.items()},
        "Version": f"sdedit {record.version}".strip(),
    }
    last = ", ".join(f"{key}: {_quoted(value)}" for key, value in pairs.items() if value)
    negative = [f"{_NEGATIVE} {edit.negative_prompt}"] if edit.negative_prompt else []
    text = "\n".join([edit.prompt, *negative, last]).replace("\0", "")
    return text.encode("utf-8", "replace").decode()  # names of files can hold bytes that are no text


def _of_rounds(edit: Edit) -> dict[str, str]:
    rounds = edit.rounds()
    if len(rounds) == 1:
        return {}
    strengths = ", ".join(f"{one.strength:.15g}" for one in rounds)
    return {"Repeats": str(len(rounds)), "Strengths": strengths, "Same noise": "True" if edit.same_noise else ""}


def _of_mask(edit: Edit, record: Record) -> dict[str, str]:
    """The pairs of a mask, named as web UIs do where they have such a one."""
    mask = ingredient("mask", record.ingredients)
    if not mask.name:
        return {}
    crop = edit.masked_area == "crop"
    return {
        "Mask": mask.name,
        "Mask hash": mask.sha256[:_HASH_LENGTH],
        "Mask mode": f"{edit.mask_mode} inverted" if edit.invert_mask else edit.mask_mode,
        "Mask grow": str(edit.mask_grow) if edit.mask_grow else "",
        "Mask blur": f"{edit.mask_blur:.15g}" if edit.mask_blur else "",
        "Mask feather": str(edit.mask_feather) if edit.mask_feather else "",
        "Inpaint area": "Only masked" if crop else "",
        "Masked area padding": str(edit.mask_padding) if crop else "",
    }


def _listed(kind: str, record: Record) -> str:
    own = [one for one in record.ingredients if one.kind == kind]
    return ", ".join(f"{listed_name(one.name)}: {(one.payload or one.sha256)[:_LISTED_HASH_LENGTH]}" for one in own)


def listed_name(name: str) -> str:
    """A name as web UIs write it in a list of names with hashes."""
    return name.replace(":", "").replace(",", "").strip()


def is_settings(text: str) -> bool:
    """Whether a text has the line of pairs that a web UI writes."""
    return _parsed(text) is not None


def parse_parameters(text: str, source: str) -> Found | None:
    """What a web UI's text says, as far as it can be used; None when it is not such a text.

    Raises PictureError for a prompt over the bounds.
    """
    parsed = _parsed(text)
    if parsed is None:
        return None
    prompt, negative, pairs = parsed
    values: dict[str, Any] = {"prompt": prompt, "negative_prompt": negative}
    unused: list[str] = []
    known = {field.name: field for field in fields()}
    for key, name in _FOREIGN.items():
        if key in pairs:
            values[name] = _value(known[name], pairs[key])
            if values[name] is None:
                unused.append(key)
    unused += [key for key, value in pairs.items() if _is_lost(key, value)]
    layer = layer_of({name: value for name, value in values.items() if value not in (None, "")}, source, PictureError)
    told = [f"{shown(key)}: {shown(pairs[key])}" for key in unused[:_MOST_TOLD]]
    told += [f"{rest} more"] if (rest := len(unused) - _MOST_TOLD) > 0 else []
    return Found(layer, tuple(_ingredients(pairs)), ignored=tuple(told))


def _is_lost(key: str, value: str) -> bool:
    """Whether a pair may have shaped the picture there, and is nothing here."""
    return not (key in _FOREIGN or key in _TOLD_ELSEWHERE or _HASH.search(key) or value.lower() in _OFF)


def _parsed(text: str) -> tuple[str, str, dict[str, str]] | None:
    """Prompt, negative prompt and pairs of a web UI's text.

    The pairs are on the first line that begins with one and has 'Steps' among at least three. What follows it
    (templates, notes of extensions) is not looked at. A text without such a line may have all on one, or a pair a line.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    begin = 0
    while begin < len(text):
        pairs, end = _line_of_pairs(text, begin)
        if len(pairs) >= _FEWEST and "Steps" in pairs and _begins_with_a_pair(text, begin):
            prompt, _, negative = f"\n{text[:begin]}".removesuffix("\n").partition(f"\n{_NEGATIVE}")
            return prompt.removeprefix("\n"), negative.strip(), pairs
        begin = end + 1
    if (steps := _STEPS.search(text)) is None:
        return None
    pairs = _first_of(pairs_of(text[steps.start() :]))
    prompt, _, negative = text[: steps.start()].partition(_NEGATIVE)
    return (prompt.strip(" ,\n"), negative.strip(" ,\n"), pairs) if len(pairs) >= _FEWEST else None


def _begins_with_a_pair(text: str, begin: int) -> bool:
    first = _FIRST_KEY.match(text, begin)
    return first is not None and not first[0].endswith(_NEGATIVE)


def _first_of(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Of the values of a key the first: what repeats it further on is of templates and extensions."""
    found: dict[str, str] = {}
    for key, value in pairs:
        found.setdefault(key, value)
    return found


def _value(field: Field, text: str) -> Any:
    """The value; '' for one that means the default, None for one that has no counterpart here."""
    if field.name == "schedule":
        curve = text.lower().replace(" ", "_")
        return "" if curve in _DEFAULT_CURVES else curve if curve in CURVES else None
    if field.name == "sampler" and text.lower() in _DEFAULT_SAMPLERS:
        return ""
    try:
        value = field.parse(text.removesuffix(".0"), field.key)  # some write whole numbers so
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


def pairs_of(text: str) -> Iterator[tuple[str, str]]:
    """The pairs of `Key: value, Key: "quoted, value"` on all lines of a text."""
    begin = 0
    while begin < len(text):
        pairs, end = _scanned(text, begin)
        yield from pairs
        begin = end + 1


def _line_of_pairs(text: str, begin: int) -> tuple[dict[str, str], int]:
    pairs, end = _scanned(text, begin)
    return _first_of(pairs), end


def _scanned(text: str, begin: int) -> tuple[list[tuple[str, str]], int]:
    """The pairs of the line that begins there, and where it ends; line breaks within quotes belong to it.

    One pass: no character is looked at more than a few times. A key is what stands before a colon, as far back as
    there are letters, digits, blanks, '_', '-' and '/'.
    """
    pairs: list[tuple[str, str]] = []
    position = begin
    while (mark := _COLON_OR_BREAK.search(text, position)) and mark[0] == ":":
        start = colon = mark.start()
        while start > position and (text[start - 1].isalnum() or text[start - 1] in "_ -/"):
            start -= 1
        key = text[start:colon].lstrip(" -/").rstrip()
        position = colon + 1
        if key:
            end = _end_of_value(text, position)
            pairs.append((key, _unquoted(text[position:end].strip())))
            position = end + text.startswith(",", end)
    return pairs, mark.start() if mark else len(text)


def _end_of_value(text: str, begin: int) -> int:
    """Where the comma or the line break behind a value is, or the end. Those within quotes belong to the value."""
    length, quote = len(text), begin
    while text[quote : quote + 1] in _BLANKS:
        quote += 1
    if text.startswith('"', quote):
        quote += 1
        while quote < length and text[quote] != '"':
            quote += 2 if text[quote] == "\\" else 1
        if quote < length and (quote + 1 == length or text[quote + 1] in ",\n"):
            return quote + 1
    stop = _COMMA_OR_BREAK.search(text, begin)
    return stop.start() if stop else length


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ',:\n"') else text


def _unquoted(text: str) -> str:
    if not text.startswith('"'):
        return text
    try:
        return str(json.loads(text, strict=False))  # line breaks within quotes are none of JSON's
    except ValueError:
        return text.strip('"')
