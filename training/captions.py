"""Captions for pictures: a name, sometimes with tags, and the style in varied words."""

from __future__ import annotations

import random

from .data import STYLES, Concept
from .words import with_article

DROPPED = 0.1  # captions left empty, for classifier-free guidance (arXiv 2207.12598)
TAGGED = 0.25  # captions with keywords beside or instead of the name

PHRASES = (
    "{style} emoji of {name}",
    "{style} emoji of {name}",
    "{style} emoji of {a_name}",
    "{name}, {style} style",
    "{a_name}, {style} style",
    "{name}, {style} emoji",
    "{a_name}",
)


def caption(concept: Concept, style: int, draw: random.Random) -> str:
    """A caption for training, now and then empty."""
    if draw.random() < DROPPED:
        return ""
    name = concept.label
    if concept.tags and draw.random() < TAGGED:
        tags = ", ".join(draw.sample(concept.tags, min(len(concept.tags), draw.randint(1, 3))))
        name = f"{name}, {tags}" if draw.random() < 0.7 else tags
    return draw.choice(PHRASES).format(style=STYLES[style], name=name, a_name=with_article(name))


def plain_caption(concept: Concept, style: int) -> str:
    """The caption that evaluation uses."""
    return f"{STYLES[style]} emoji of {with_article(concept.label)}"
