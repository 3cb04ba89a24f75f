"""LoRAs that a prompt or a picture names: found in the LoRA folders by name or hash, never by a path."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..disk.hashes import content_hash, payload_hash
from ..errors import ModelError, PictureError, UsageError, listed, shown
from ..options import Edit
from ..options.adapters import LoraFile, tagged_lora
from ..pictures.parameters import listed_name
from ..pictures.record import Found, Ingredient
from .folders import Folders, said_hash

if TYPE_CHECKING:
    from ..text.tags import Tag

_KIND = "lora"
_MARKS = ("<", "&lt;")


def with_tags(edit: Edit, folders: Folders, like: Found | None) -> tuple[Edit, tuple[str, ...]]:
    """The edit with the LoRAs that its prompt names in tags behind those that it has, and notes for people.

    The prompt keeps its tags: it is what a picture records. Raises UsageError for what is no whole tag, ModelError for
    names that are nowhere or several files; PictureError where a picture's prompt is to blame.
    """
    said = like if like and like.layer.values.get("prompt") == edit.prompt else None
    try:
        tags = tags_of(edit.prompt)
        strengths = [tagged_lora(tag.name, tag.items, shown(tag.text)) for tag in tags]
    except UsageError as problem:
        if said is None:
            raise
        raise PictureError(f"{said.layer.source}: {problem}") from None
    notes: list[str] = []
    loras: list[LoraFile] = []
    for tag, strength in zip(tags, strengths, strict=True):
        path = find_lora(_ingredient(tag.name, said), folders)
        if path is None:
            raise _missing(tag, folders, said)
        loras.append(replace(strength, path=str(path)))
        notes += [f"{said.layer.source}: {tag.text} is {path}"] if said else []
    if stray := _stray(edit.negative_prompt):
        notes.append(
            f"the negative prompt has {stray}: text there, as in web UIs; in the prompt, strengths below 0 work against"
        )
    return replace(edit, lora=(*edit.lora, *loras)) if loras else edit, tuple(notes)


def tags_of(prompt: str) -> tuple[Tag, ...]:
    """The tags of a prompt. Raises UsageError for what is no whole one."""
    return _split(prompt)[1]


def without_tags(prompt: str) -> str:
    """The words of a prompt. Raises UsageError for what is no whole tag."""
    return _split(prompt)[0]


def has_marks(prompt: str) -> bool:
    """Whether a tag may begin in it."""
    return any(mark in prompt for mark in _MARKS)


def _split(prompt: str) -> tuple[str, tuple[Tag, ...]]:
    if not has_marks(prompt):
        return prompt, ()
    from ..text.tags import split_tags

    return split_tags(prompt)


def names_of(edit: Edit) -> list[str]:
    """What a record calls the LoRAs of an edit with its tags' ones: as the tags do, or by the names of their files."""
    tagged = [tag.name for tag in tags_of(edit.prompt)]
    return [file.name for file in edit.lora[: len(edit.lora) - len(tagged)]] + tagged


def beside_tags(found: Found) -> tuple[Ingredient, ...]:
    """The LoRAs of a picture that its prompt does not name in tags: those have their strengths there."""
    try:
        tagged = Counter(listed_name(tag.name) for tag in tags_of(str(found.layer.values.get("prompt", ""))))
    except UsageError:
        return ()  # the prompt is refused where it is used
    kept: list[Ingredient] = []
    for one in reversed([one for one in found.ingredients if one.kind == _KIND and one.name]):
        if tagged[listed_name(one.name)]:
            tagged[listed_name(one.name)] -= 1
        else:
            kept.append(one)
    return tuple(reversed(kept))


def find_lora(one: Ingredient, folders: Folders) -> Path | None:
    """The file that a picture or a prompt means, by its hash if it has one, else by its name. Raises ModelError."""
    # Of pictures of our own all is known, and nothing has to be taken from what a file says of itself.
    tries = (
        [(one.sha256, content_hash), (one.payload, payload_hash)]
        if one.payload
        else [(one.sha256, of) for of in (content_hash, payload_hash, said_hash)]
    )
    by_hash = next((found for sha256, of in tries if (found := folders.by_hash(sha256, one.name, of))), None)
    return by_hash or folders.find(one.name)


def lora_file(path: str, one: Ingredient) -> LoraFile:
    """The value of --lora for a file, as strong as a picture says; fully where it says nothing."""
    return LoraFile(path, 1.0 if one.scale is None else one.scale, one.te_scale, one.blocks, one.dyn)


def _ingredient(name: str, said: Found | None) -> Ingredient:
    named = (one for one in (said.ingredients if said else ()) if one.kind == _KIND)
    known = next((one for one in named if listed_name(one.name) == listed_name(name)), Ingredient(_KIND))
    return replace(known, name=name)


def _missing(tag: Tag, folders: Folders, said: Found | None) -> ModelError:
    whose = f"{said.layer.source}: its prompt has " if said else ""
    again = ", or give another prompt with -p" if said else ""
    return ModelError(f"{whose}{shown(tag.text)}: no LoRA is called so{folders.elsewhere(tag.name)}{again}")


def _stray(negative: str) -> str:
    try:
        tags: Sequence[Tag] = tags_of(negative)
    except UsageError:
        return ""  # it is text in any case
    return listed([tag.text for tag in tags], 2)
