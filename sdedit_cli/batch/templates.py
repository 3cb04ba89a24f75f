"""Templates of names, such as 'out/{stem}-{seed}.png': what they hold, which format they mean, what names they give."""

from __future__ import annotations

import os
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from ..errors import UsageError, did_you_mean, shortened
from ..pictures.encode import check_format
from ..pictures.endings import FORMATS, SUFFIXES
from .names import fitting

PLACEHOLDERS = ("stem", "name", "parent", "ext", "format", "seed", "index", "n")
_TELLS_PICTURES_APART = ("seed", "n")
_ENDINGS = ", ".join(FORMATS.values())
_MAX_WIDTH = 999
_MAX_TEMPLATE = 4096  # the longest path of any system


def template_of(output: str, ext: str, inputs: int, label: str) -> str:
    """The template that a file, a folder or a template stands for, `ext` in folders. Raises UsageError with `label`."""
    if len(output) > _MAX_TEMPLATE:
        raise UsageError(f"{label} {shortened(output)}: has {len(output)} characters; expected at most {_MAX_TEMPLATE}")
    # Of what was typed, and not of the inputs' names: those are meant as they are.
    output = os.path.expanduser(output)
    if output.endswith(("/", os.sep)) or os.path.isdir(output):
        return literal(output.rstrip("/" + os.sep) or os.sep) + f"/{{stem}}.{ext}"
    if "{" in output:
        check_placeholders(output, label)
        return output
    if inputs > 1:
        raise UsageError(
            f"{label} {output} names one file for {inputs} inputs; give a folder (end it with '/'), "
            "or a template such as 'out/{stem}-{seed}.png'"
        )
    return literal(output)


def literal(path: str) -> str:
    """A path as a template that stands for it."""
    return path.replace("{", "{{").replace("}", "}}")


@lru_cache(maxsize=64)
def check_placeholders(template: str, label: str = "-o") -> None:
    """Raises UsageError for a template that nothing can be filled in."""
    try:
        found = [(name, spec or "") for _, name, spec, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as problem:
        raise UsageError(
            f"{label} {template}: is no template ({problem}); write '{{{{' for a brace in a name"
        ) from None
    for name, spec in found:
        if name not in PLACEHOLDERS:
            known = ", ".join(f"{{{place}}}" for place in PLACEHOLDERS)
            hint = did_you_mean(name, PLACEHOLDERS)
            raise UsageError(f"{label} {shortened(template)}: has '{{{shortened(name)}}}'{hint}; it may have {known}")
        if "{" in spec or any(_is_too_wide(number) for number in re.findall(r"[0-9]+", spec)):
            raise UsageError(
                f"{label} {shortened(template)}: '{{{name}:{shortened(spec, 40)}}}' is too wide; "
                f"expected a width such as {{{name}:03}}"
            )


def _is_too_wide(digits: str) -> bool:
    return len(digits) > len(str(_MAX_WIDTH)) or int(digits) > _MAX_WIDTH


def split_template(template: str) -> tuple[str, str]:
    """A template before its ending, and the ending: '.png', or a placeholder for one."""
    for place in (".{ext}", ".{format}"):
        if template.endswith(place):
            return template.removesuffix(place), place
    return os.path.splitext(template)


@lru_cache(maxsize=64)
def format_of(template: str, format: str | None, label: str = "-o", *, or_folder: bool = True) -> str:
    """The format that a template's ending means. Raises UsageError for one that cannot be written.

    `or_folder` says whether the name of a folder would do there.
    """
    suffix, named = split_template(template)[1].lower(), shortened(template)
    if not suffix:
        whole = f"such as '{named}{{stem}}.png'" if template.endswith(("/", os.sep)) else f"such as '{named}.png'"
        other = "or a folder ending in '/'" if or_folder else whole
        raise UsageError(f"{label} {named}: has no ending; expected {_ENDINGS}, {other}")
    if "{" in suffix:
        return _written(format or "png")
    meant = SUFFIXES.get(suffix)
    if meant is None:
        raise UsageError(f"{label} {named}: '{shortened(suffix, 40)}' cannot be written; expected {_ENDINGS}")
    if format and format != meant:
        raise UsageError(f"{label} {named}: ends in {suffix}, and --format says {format}; change one of them")
    return _written(meant)


def _written(format: str) -> str:
    check_format(format)
    return format


def names_of(
    template: str, parts: tuple[str, str, str], index: int, seeds: Sequence[int], format: str, label: str = "-o"
) -> Iterator[str]:
    """The names of the pictures of an input, a seed each, by its folder, its name and its stem.

    Several that the template does not tell apart are numbered. Raises UsageError with `label`.
    """
    if len(seeds) > 1 and not _has_placeholder(template, _TELLS_PICTURES_APART):
        root, ending = split_template(template)
        template = f"{root}-{{n}}{ending}"
    parent, name, stem = parts
    for n, seed in enumerate(seeds, 1):
        facts: Mapping[str, object] = {
            "name": name,
            "parent": parent,
            "ext": FORMATS.get(format, format).removeprefix("."),  # animations have more
            "format": format,
            "seed": seed,
            "index": index,
            "n": n,
        }
        try:
            named = fitting(stem, lambda stem, facts=facts: template.format_map({"stem": stem, **facts}))
        except (ValueError, TypeError, AttributeError, IndexError, KeyError, OverflowError) as problem:
            raise UsageError(f"{label} {template}: is no template ({problem})") from None
        if "\0" in named:
            raise UsageError(f"{label} {template}: gives a name with a NUL character, which no file can have")
        yield named


def _has_placeholder(template: str, names: Sequence[str]) -> bool:
    return any(name in names for _, name, _, _ in string.Formatter().parse(template))
