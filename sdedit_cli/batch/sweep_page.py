"""The page of a sweep: all pictures in their places, each large with its command line on a click."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .html_parts import data_uri, escaped, policy, style_and_script
from .sheet import shrunk
from .sweep import Sweep
from .swept import Swept

if TYPE_CHECKING:
    from PIL import Image

# Up to so many pictures on a page, so many pixels on the longer side of each.
_SIDES = ((64, 1024), (400, 640))
_SMALLEST_SIDE = 384
# Below it, a picture is drawn pixel by pixel, and nothing of it is lost.
_SMALL = 128
_MANY = 36


@dataclass(frozen=True, slots=True)
class Part:
    """What a page shows of one input: its pictures, and the command line of each by its place."""

    swept: Swept
    lines: Sequence[str]
    commands: Sequence[str]
    plot: Image.Image | None


def page_side(pictures: int) -> int:
    """How large a picture of a page of so many may be."""
    return next((side for most, side in _SIDES if pictures <= most), _SMALLEST_SIDE)


def uri_of(image: Image.Image, side: int) -> str:
    """A picture as a text that stands in a page, no larger than `side`."""
    small = shrunk(image, side)
    return data_uri(small, "webp", quality=88, method=2, lossless=max(small.size) <= _SMALL)


def pieces(sweep: Sweep, parts: Sequence[Part]) -> Iterator[bytes]:
    """The bytes of the page, in pieces. Equal sweeps give equal bytes."""
    style, script = style_and_script("sweep")
    title = "sdedit sweep: " + " x ".join(axis.key for axis in sweep.axes)
    yield f"""<!doctype html>
<html lang=en>
<meta charset=utf-8>
<meta http-equiv=Content-Security-Policy content="{policy(style, script)}">
<meta name=viewport content="width=device-width, initial-scale=1">
<title>{escaped(title)}</title>
<style>{style}</style>
<main{" class=many" if sweep.size > _MANY else ""}>
""".encode()
    for part in parts:
        yield from (text.encode() for text in _part(sweep, part))
    yield f"""</main>
<dialog id=view aria-labelledby=label>
<div class=bar><strong id=label></strong><button type=button id=previous aria-label="previous picture">&larr;</button>
<button type=button id=next aria-label="next picture">&rarr;</button><button type=button id=close>close</button></div>
<p id=facts class=soft></p>
<div id=both><figure><img id=before alt="input"><figcaption>input</figcaption></figure>
<figure><img id=large alt="picture of the sweep"><figcaption>result</figcaption></figure></div>
<pre id=command></pre>
</dialog>
<script>{script}</script>
""".encode()


def _part(sweep: Sweep, part: Part) -> Iterator[str]:
    swept = part.swept
    yield f"<section>\n<h1><bdi>{escaped(swept.title)}</bdi></h1>\n<div class=top><div>"
    yield "".join(f"<p class=soft><bdi>{escaped(line)}</bdi></p>" for line in part.lines)
    yield f"<figure class=input>{_image(swept.input_uri, swept.input, 'input')}<figcaption>input</figcaption></figure>"
    yield "</div>"
    if part.plot:
        text = "distance to the input and realism by strength"
        yield f'<img class=plot width={part.plot.width} alt="{text}" src="{data_uri(part.plot, "png")}">'
    yield "</div>\n"
    for places, title in sweep.blocks:
        if title:
            yield f"<h2><bdi>{escaped(title)}</bdi></h2>\n"
        yield "<div class=scroll><table>"
        yield from _table(sweep, part, places)
        yield "</table></div>\n"
    yield "</section>\n"


def _table(sweep: Sweep, part: Part, places: tuple[int, ...]) -> Iterator[str]:
    across, down = sweep.across, sweep.down
    corner = "<th></th>" if down else ""
    heads = "".join(f"<th scope=col><bdi>{escaped(across.named(at))}</bdi></th>" for at in range(len(across.values)))
    yield f"<thead><tr>{corner}{heads}</tr></thead><tbody>"
    for row in range(len(down.values) if down else 1):
        yield f"<tr><th scope=row><bdi>{escaped(down.named(row))}</bdi></th>" if down else "<tr>"
        for column in range(len(across.values)):
            yield _cell(part, (column, *([row] if down else []), *places))
        yield "</tr>"
    yield "</tbody>"


def _cell(part: Part, place: tuple[int, ...]) -> str:
    number = part.swept.number_of[place]
    shown, cell = part.swept.shown.get(number), part.swept.cells[number]
    if shown is None:
        return f"<td class=failed><bdi>failed: {escaped(part.swept.problems.get(number, ''))}</bdi></td>"
    near = [] if shown.distance is None else [f"distance to the input {shown.distance:.4f} (L2 per pixel)"]
    near += [] if shown.features is None else [f"in features {shown.features:.4f} to {part.swept.compared_with}"]
    facts = ", ".join(near)
    return (
        f'<td><button type=button class=cell data-label="{escaped(cell.label)}" data-facts="{escaped(facts)}" '
        f'data-command="{escaped(part.commands[number])}">'
        f"{_image(shown.uri, shown.image, cell.label)}</button></td>"
    )


def _image(uri: str, image: Image.Image, text: str) -> str:
    kind = "pixels" if max(image.size) <= _SMALL else "smooth"
    return f'<img class={kind} loading=lazy decoding=async alt="{escaped(text)}" src="{uri}">'
