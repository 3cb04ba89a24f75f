"""The report of a batch for people: one page that needs nothing else, with inputs beside outputs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from html import escape
from urllib.parse import quote

from .html_parts import escaped, policy, style_and_script
from .report import FAILED, STATES, Line, Report, clean
from .thumbnails import Thumbnail, side_of, thumbnail

MARK = b"<!doctype html>\n<!-- sdedit batch report -->\n"
_LABELS = {"before": "input", "after": "output"}


def pieces(report: Report, base: str) -> Iterator[bytes]:
    """The bytes of the page, in pieces, failures first; what it links to is found from its folder `base`.

    Equal batches give equal bytes: the page says nothing of when it was made or how long anything took.
    """
    style, script = style_and_script("report")
    yield MARK
    yield _head(report, style, script).encode()
    side = side_of(len(report.lines))
    for line in sorted(report.lines, key=lambda line: STATES.index(line.state)):
        yield _job(line, side, base).encode()
    yield f"</ol>\n<p id=none hidden>Nothing fits.</p>\n</main>\n<script>{script}</script>\n".encode()


def _head(report: Report, style: str, script: str) -> str:
    title = f"sdedit batch{' --check' if report.checked else ''}: {clean(report.folder.as_posix())}"
    counts = report.counts
    summary = ", ".join(f"{count} {state}" for state, count in counts.items()) or "no jobs"
    buttons = "".join(
        f'<button type=button class="state {state}" data-state={state} aria-pressed=false>{state} {count}</button>'
        for state, count in counts.items()
    )
    return f"""<html lang=en>
<meta charset=utf-8>
<meta http-equiv=Content-Security-Policy content="{policy(style, script)}">
<meta name=viewport content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{style}</style>
<header>
<h1><bdi>{escape(title)}</bdi></h1>
<p id=summary>{summary}</p>
<form id=filter hidden>
<input type=search id=text placeholder="filter by name, prompt, reason  ( / )" aria-label="filter by text">
{buttons}
<span id=shown role=status></span>
</form>
<p id=keys hidden><kbd>j</kbd> <kbd>k</kbd> or <kbd>&darr;</kbd> <kbd>&uarr;</kbd> next and previous,
<kbd>&larr;</kbd> <kbd>&rarr;</kbd> slider, <kbd>/</kbd> filter, <kbd>Esc</kbd> all</p>
</header>
<main>
<ol id=jobs>
"""


def _job(line: Line, side: int, base: str) -> str:
    """A job as an item of the list."""
    before = thumbnail(line.source, side) if line.source else None
    after = thumbnail(line.output, side) if line.output and line.state != FAILED else None
    parts = [
        f"<li class=job data-state={line.state} tabindex=-1><h2><bdi>{escaped(line.name or 'job')}</bdi> "
        f'<span class="state {line.state}">{line.state}</span></h2>',
        _pictures(before, after, line.name),
    ]
    if line.reason:
        word = f"<code>{escaped(line.word)}</code> " if line.word else ""
        parts.append(f"<p class=why>{word}<bdi>{escaped(line.reason)}</bdi>")
    if line.prompt:
        parts.append(f"<p class=prompt><bdi>{escaped(line.prompt)}</bdi>")
    if line.negative_prompt:
        parts.append(f"<p class=negative>not: <bdi>{escaped(line.negative_prompt)}</bdi>")
    if line.settings:
        pairs = "".join(f"<div><dt>{escaped(k)}<dd><bdi>{escaped(v)}</bdi></div>" for k, v in line.settings)
        parts.append(f"<dl>{pairs}</dl>")
    links = [_link(path, text, base) for path, text in ((line.source, "input"), (line.output, "output")) if path]
    parts.append(f"<p class=files>{''.join(links)}</p></li>\n" if links else "</li>\n")
    return "\n".join(parts)


def _pictures(before: Thumbnail | None, after: Thumbnail | None, name: str) -> str:
    there = {kind: one for kind, one in (("before", before), ("after", after)) if one}
    if not there:
        return "<p class=blank>no picture</p>"
    images = "".join(
        f"<figure class={kind}><img class={'pixels' if one.is_pixels else 'smooth'} width={one.width} "
        f'height={one.height} loading=lazy decoding=async alt="{_LABELS[kind]}" src="{one.uri}">'
        f"<figcaption>{_LABELS[kind]}</figcaption></figure>"
        for kind, one in there.items()
    )
    both = len(there) == 2
    slider = f'<input type=range hidden step=any aria-label="input or output of {escaped(name)}">' if both else ""
    kinds = ["pictures", *(["pair"] if both else []), _shape(list(there.values())[-1])]
    return f'<div class="{" ".join(kinds).strip()}">{images}{slider}</div>'


def _shape(picture: Thumbnail) -> str:
    """The word by which a picture that is higher than wide gets less of the width."""
    ratio = picture.height / picture.width
    return next((word for least, word in ((4, "strip"), (2, "tower"), (1.2, "tall")) if ratio > least), "")


def _link(path: str, text: str, base: str) -> str:
    """The name of a file, which opens it where the page still lies as it did."""
    shown = f"<span>{text}</span> <bdi>{escaped(path)}</bdi>"
    try:
        address = quote(os.fsencode(os.path.relpath(path, base).replace(os.sep, "/")))
    except ValueError:  # on another drive, or no path at all
        return f"<span class=file>{shown}</span>"
    return f'<a class=file href="{escape(address)}">{shown}</a>'
