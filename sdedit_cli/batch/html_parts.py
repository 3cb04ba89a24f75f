"""What the pages of reports and sweeps share: each is one file, which runs its own script alone and fetches nothing."""

from __future__ import annotations

import base64
import hashlib
import io
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .report import clean

if TYPE_CHECKING:
    from PIL import Image

_ASSETS = Path(__file__).parents[1] / "assets"


def style_and_script(page: str) -> tuple[str, str]:
    """The style sheet and the script of a kind of page, by its folder among the assets."""
    style, script = ((_ASSETS / page / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return style, script


def policy(style: str, script: str) -> str:
    """The Content-Security-Policy of a page: whatever a name or a prompt brings along, nothing but these two runs."""
    return f"default-src 'none'; img-src data:; style-src {_hashed(style)}; script-src {_hashed(script)}"


def _hashed(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def escaped(text: str) -> str:
    """A text of anybody's as it stands in a page."""
    return escape(clean(text))


def data_uri(image: Image.Image, format: str, **options: Any) -> str:
    """A picture as a text that stands in a page, encoded by Pillow with these options."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return f"data:image/{format};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
