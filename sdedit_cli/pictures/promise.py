"""Whether a picture comes out again byte for byte, told by what it says of its edit; and if not, why.

The promise holds for one machine: of which processor it is a picture says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import UsageError, shown
from ..options import Edit, Layer, edit_from, field_named
from ..options.masks import NAMES as OF_MASKS
from .record import Found, Ingredient, Record

# What the last bits depend on, as people call it.
_WORDS = {
    "sdedit": "sdedit",
    "numeric": "numeric version",
    "torch": "torch",
    "openvino": "OpenVINO",
    "pillow": "Pillow",
    "device": "device",
    "threads": "threads",
    "together": "pictures at a time",
}
_ABSENT = {"together": "1"}
_LONGEST = 40
# What prompts that came encoded say again.
_TEXTS = ("prompt", "negative_prompt")


def other_settings(found: Found, edit: Edit) -> tuple[str, ...]:
    """The settings of an edit that are not those of the picture, for people; () for a picture of another tool.

    Of several pictures the seed is not looked at, as each has its own.
    """
    if not found.exact:
        return ()
    try:
        theirs, ours = edit_from([found.layer, *_masked_as(found, edit)]).saved(), edit.saved()
    except UsageError:
        return ()  # the run says what is wrong with it
    passed_over = {"seed"} if edit.count > 1 else set[str]()
    passed_over |= set(_TEXTS) if edit.prompt_embeds else set()
    # A mask where there was none, or none where there was one, is told as a file.
    passed_over |= OF_MASKS if not _masked_as(found, edit) else frozenset()
    names = [name for name in {**theirs, **ours} if name not in passed_over and theirs.get(name) != ours.get(name)]
    return tuple(
        f"{field_named(name, '').key} {_said(ours.get(name))} (was {_said(theirs.get(name))})" for name in names
    )


def _masked_as(found: Found, edit: Edit) -> list[Layer]:
    """The mask of an edit for a picture that had one: without any, the settings of masks say nothing."""
    return [Layer("", {"mask": edit.mask})] if edit.mask and "mask_mode" in found.layer.values else []


def _said(value: object) -> str:
    if value is None or isinstance(value, bool):
        return "on" if value else "off" if value is False else "not set"
    text = shown(value, _LONGEST)
    return f"'{text}'" if isinstance(value, str) and (" " in text or not text) else text


def other_making(found: Found, record: Record) -> tuple[str, ...]:
    """Why a picture with this record need not be that one, beside settings and input, for people.

    Of a picture of another tool only the files that it knows by hashes are compared.
    """
    reasons = _other_files(found, record.ingredients)
    if not found.exact:
        return reasons
    if found.made_on.keys() <= {"sdedit"}:
        return (*reasons, "it does not say with which versions and on what device it was made")
    return (*reasons, *_other_place(found.made_on, {"sdedit": record.version, **record.made_on}))


def _other_place(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    both = [{**_ABSENT, **one} for one in (now, before)]
    names = [name for name in _WORDS if both[0].get(name, "") != both[1].get(name, "")]
    if "device" in names and "openvino" in names:
        names.remove("openvino")  # the device says it
    if "device" in names and "threads" in names:
        names.remove("threads")  # they count on the CPU alone
    told = [[shown(one.get(name, "unknown")) for one in both] for name in names]
    return tuple(f"{_WORDS[name]} {here} (was {there})" for name, (here, there) in zip(names, told, strict=True))


def _other_files(found: Found, made_of: Sequence[Ingredient]) -> tuple[str, ...]:
    theirs = [one for one in found.ingredients if one.name or one.sha256]
    reasons: list[str] = []
    for kind in dict.fromkeys(one.kind for one in (*theirs, *made_of)):
        before = [one for one in theirs if one.kind == kind]
        now = [one for one in made_of if one.kind == kind]
        if not found.exact and not any(one.sha256 for one in before):
            continue
        reasons += [f"it was made without {_names(kind, now)}"] * (not before and found.exact)
        reasons += [f"it was made with {_names(kind, before)}"] * (not now)
        if not before or not now:
            continue
        if not all(any(_is(one, two) for two in now) for one in before) or len(before) != len(now):
            reasons.append(f"it was made with another {kind} than this one")
        elif found.exact and [_strengths(one) for one in before] != [_strengths(one) for one in now]:
            reasons.append(f"its {_names(kind, before)} had other strengths, or another order")
    return tuple(reasons)


def _names(kind: str, among: Sequence[Ingredient]) -> str:
    return ", ".join(f"{kind} '{shown(one.name, _LONGEST)}'" for one in among)


def _is(theirs: Ingredient, ours: Ingredient) -> bool:
    """Whether an ingredient of a picture is this file, as far as their hashes are known."""
    # Web UIs know LoRAs by another hash, and files by the start of it.
    known = [sha256 for sha256 in (ours.sha256, ours.payload) if sha256]
    return not theirs.sha256 or not known or any(sha256.startswith(theirs.sha256) for sha256 in known)


def _strengths(one: Ingredient) -> tuple[object, ...]:
    return (one.sha256, one.scale, one.te_scale, one.blocks, one.dyn)
