"""Tags of web UIs in prompts: what is taken out, what is refused, and that any text takes time by its length."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdedit_cli.errors import UsageError
from sdedit_cli.text.tags import Tag, split_tags


@pytest.mark.parametrize(
    ("text", "plain", "tags"),
    [
        ("a cat", "a cat", []),
        ("a cat <lora:style:0.8>", "a cat ", [("style", ("0.8",))]),
        ("<lora:style>a", "a", [("style", ())]),
        ("a, <lora:sub/style v2 (x):0.8:0.5>, b", "a, , b", [("sub/style v2 (x)", ("0.8", "0.5"))]),
        ("(a <lora:x:1>:1.2) [b:<lora: y : te=0.5 >c:3]", "(a :1.2) [b:c:3]", [("x", ("1",)), ("y", ("te=0.5",))]),
        ("<LoRA:x:1><lyco:y:1>", "", [("x", ("1",)), ("y", ("1",))]),
        ("<lora:x:1:lbw=1,0,1>", "", [("x", ("1", "lbw=1,0,1"))]),
        ("<lora:two\nlines:1>", "", [("two\nlines", ("1",))]),
        # What is no tag is text: a word of an embedding, an arrow, a heart.
        ("<me> <lora> <lora x> 1 < 2 <3 <b:c> lora:x:1>", "<me> <lora> <lora x> 1 < 2 <3 <b:c> lora:x:1>", []),
    ],
)
def test_tags_are_taken_out_of_the_text(text: str, plain: str, tags: list[tuple[str, tuple[str, ...]]]) -> None:
    found, taken = split_tags(text)
    assert found == plain
    assert [(tag.name, tag.items) for tag in taken] == tags
    assert all(tag.text in text for tag in taken)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a <lora:x:1", r"'<lora:x:1' is a tag without an end; expected one such as <lora:name:0.8>"),
        ("<lora:x <lora:y:1>", "'<lora:x <lora:y:1>' is a tag without an end"),
        (r"a \<lora:x:1>", r"'\\<lora:x:1>' is an escaped tag"),
        ("a &lt;lora:x:1&gt;", "escaped for web pages; write it with < and >"),
        ("<lora:>", "'<lora:>' is a tag without a name"),
        ("<lora: :1>", "without a name"),
        ("<hypernet:x:1>", "'<hypernet:x:1>' asks for a hypernetwork, which is not supported; take it out"),
    ],
)
def test_what_is_no_whole_tag_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        split_tags(text)


NAMES = st.text("ab c/()[]|\\_-.", min_size=1).map(str.strip).filter(bool)


@given(st.lists(st.tuples(st.text("ab ([:|])\\,<>&", max_size=9).map(lambda s: s.rstrip("\\")), NAMES), max_size=5))
def test_what_was_put_in_comes_out(parts: list[tuple[str, str]]) -> None:
    text = "".join(f"{words}<lora:{name}:1>" for words, name in parts)
    plain, tags = split_tags(text)
    assert plain == "".join(words for words, _ in parts)
    assert tags == tuple(Tag(name, ("1",), f"<lora:{name}:1>") for _, name in parts)
