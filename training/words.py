"""Articles for names; apart from captions.py, since data.py needs the drawings and captions.py the data."""

from __future__ import annotations


def with_article(name: str) -> str:
    """`an apple`, `a red apple`; plurals and names that are sentences are left as they are."""
    if name.endswith("s") and not name.endswith(("ss", "us", "is")):
        return name
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
