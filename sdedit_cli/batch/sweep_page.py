"""The page of a sweep: all pictures in their places, each large with its command line on a click."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from .report import clean
from .report_html import hashed
from .sheet import shrunk
from .sweep import Sweep
from .swept import Swept

if TYPE_CHECKING:
    from PIL import Image

_ASSETS = Path(__file__).parents[1] / "assets" / "sweep"
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
    buffer = io.BytesIO()
    small.save(buffer, "webp", quality=88, method=2, lossless=max(small.size) <= _SMALL)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def pieces(sweep: Sweep, parts: Sequence[Part]) -> Iterator[bytes]:
    """The bytes of the page, in pieces. Equal sweeps give equal bytes."""
    style, script = ((_ASSETS / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    # Whatever a name or a prompt brings along, the page runs nothing but its own script, and fetches nothing.
    policy = f"default-src 'none'; img-src data:; style-src {hashed(style)}; script-src {hashed(script)}"
    title = "sdedit sweep: " + " x ".join(axis.key for axis in sweep.axes)
    yield f"""<!doctype html>
<html lang=en>
<meta charset=utf-8>
<meta http-equiv=Content-Security-Policy content="{policy}">
<meta name=viewport content="width=device-width, initial-scale=1">
<title>{_escaped(title)}</title>
<style>{style}</style>
<main{" class=many" if len(sweep) > _MANY else ""}>
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
    yield f"<section>\n<h1><bdi>{_escaped(swept.title)}</bdi></h1>\n<div class=top><div>"
    yield "".join(f"<p class=soft><bdi>{_escaped(line)}</bdi></p>" for line in part.lines)
    yield f"<figure class=input>{_image(swept.input_uri, swept.input, 'input')}<figcaption>input</figcaption></figure>"
    yield "</div>"
    if part.plot:
        text = "distance to the input and realism by strength"
        yield f'<img class=plot width={part.plot.width} alt="{text}" src="{_lossless(part.plot)}">'
    yield "</div>\n"
    for places, title in sweep.blocks:
        if title:
            yield f"<h2><bdi>{_escaped(title)}</bdi></h2>\n"
        yield "<div class=scroll><table>"
        yield from _table(sweep, part, places)
        yield "</table></div>\n"
    yield "</section>\n"


def _table(sweep: Sweep, part: Part, places: tuple[int, ...]) -> Iterator[str]:
    across, down = sweep.across, sweep.down
    corner = "<th></th>" if down else ""
    heads = "".join(f"<th scope=col><bdi>{_escaped(across.named(at))}</bdi></th>" for at in range(len(across.values)))
    yield f"<thead><tr>{corner}{heads}</tr></thead><tbody>"
    for row in range(len(down.values) if down else 1):
        yield f"<tr><th scope=row><bdi>{_escaped(down.named(row))}</bdi></th>" if down else "<tr>"
        for column in range(len(across.values)):
            yield _cell(part, (column, *([row] if down else []), *places))
        yield "</tr>"
    yield "</tbody>"


def _cell(part: Part, place: tuple[int, ...]) -> str:
    number = part.swept.number_of[place]
    shown, cell = part.swept.shown.get(number), part.swept.cells[number]
    if shown is None:
        return f"<td class=failed><bdi>failed: {_escaped(part.swept.problems.get(number, ''))}</bdi></td>"
    near = [] if shown.distance is None else [f"distance to the input {shown.distance:.4f} (L2 per pixel)"]
    near += [] if shown.features is None else [f"in features {shown.features:.4f} to {part.swept.compared_with}"]
    facts = ", ".join(near)
    return (
        f'<td><button type=button class=cell data-label="{_escaped(cell.label)}" data-facts="{_escaped(facts)}" '
        f'data-command="{_escaped(part.commands[number])}">'
        f"{_image(shown.uri, shown.image, cell.label)}</button></td>"
    )


def _image(uri: str, image: Image.Image, text: str) -> str:
    kind = "pixels" if max(image.size) <= _SMALL else "smooth"
    return f'<img class={kind} loading=lazy decoding=async alt="{_escaped(text)}" src="{uri}">'


def _lossless(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _escaped(text: str) -> str:
    return escape(clean(text))
