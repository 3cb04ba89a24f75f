"""Numbers of bytes as people write and read them."""

from __future__ import annotations

import re

from ..errors import UsageError, shown

# More digits than any disk needs are no size, however well formed.
_SIZE = re.compile(r"\s*(\d{1,18}(?:\.\d{1,18})?)\s*(?:([KMGT])(I?)B?|B?)\s*", re.ASCII | re.IGNORECASE)


def parse_size(size: int | str, name: str) -> int:
    """Bytes of '500MB', '2 GiB', '1000000' or 1000000. Raises UsageError, about `name`, for others."""
    found = _SIZE.fullmatch(str(size))
    count = 0
    if found:
        power = " KMGT".index(found[2].upper()) if found[2] else 0
        count = int(float(found[1]) * (1024 if found[3] else 1000) ** power)
    if count <= 0:
        raise UsageError(f"{name} is '{shown(size)}', expected bytes or a size such as 5GB or 500MiB")
    return count


def rounded(number: float) -> str:
    """A number to three digits, or to two behind the point: '0.000512', '30.72', '2,684,355'."""
    return f"{number:,.2f}".rstrip("0").rstrip(".") if number >= 1 else f"{number:.3g}"


def size_text(size: int) -> str:
    """A size in the unit that fits it: '4.27 GB', '12.3 MB', '0.5 kB'."""
    if size >= 1e9:
        return f"{size / 1e9:,.2f} GB"
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{size / 1e3:,.1f} kB"
