"""Tags of web UIs in prompts, `<lora:name:0.8>`: taken out of the text, wherever in its weights they stand.

`lyco` is `lora` by another name. As in web UIs a tag holds for the whole edit and leaves nothing behind in the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import UsageError, shown

_OPENING = re.compile(r"(?P<mark><|&lt;)(?P<kind>lora|lyco|hypernet):", re.IGNORECASE)
# A tag ends before another one begins: each character is looked at once.
_END = re.compile(r"[<>]")
_EXAMPLE = "expected one such as <lora:name:0.8>"


@dataclass(frozen=True)
class Tag:
    """A tag as written (`text`): the name of a LoRA, and what stands behind it between colons."""

    name: str
    items: tuple[str, ...]
    text: str


def split_tags(text: str) -> tuple[str, tuple[Tag, ...]]:
    """The text without its tags, and these in their order.

    Raises UsageError for a tag that is escaped, has no end or no name, and for one of a hypernetwork.
    """
    plain: list[str] = []
    tags: list[Tag] = []
    position = 0
    while opening := _OPENING.search(text, position):
        tag, end = _tag(text, opening)
        plain.append(text[position : opening.start()])
        tags.append(tag)
        position = end
    return "".join([*plain, text[position:]]), tuple(tags)


def _tag(text: str, opening: re.Match[str]) -> tuple[Tag, int]:
    begin = opening.start()
    closing = _END.search(text, opening.end())
    if opening["mark"] != "<":
        raise UsageError(f"'{_some(text, begin)}' is a tag escaped for web pages; write it with < and >")
    if begin and text[begin - 1] == "\\":
        raise UsageError(
            f"'{_some(text, begin - 1)}' is an escaped tag, and a tag is no text; leave the \\ or the tag out"
        )
    if closing is None or closing[0] == "<":
        raise UsageError(f"'{_some(text, begin)}' is a tag without an end; {_EXAMPLE}")
    whole = text[begin : closing.end()]
    if opening["kind"].lower() == "hypernet":
        raise UsageError(f"'{shown(whole)}' asks for a hypernetwork, which is not supported; take it out")
    name, *items = (part.strip() for part in text[opening.end() : closing.start()].split(":"))
    if not name:
        raise UsageError(f"'{shown(whole)}' is a tag without a name; {_EXAMPLE}")
    return Tag(name, tuple(items), whole), closing.end()


def _some(text: str, begin: int) -> str:
    return shown(text[begin : begin + 40])
