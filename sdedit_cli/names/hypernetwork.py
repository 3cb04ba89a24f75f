"""How tensors of a web UI's hypernetwork are named: two small networks, for keys and for values, for each width of a
context."""

from __future__ import annotations

import re

OF_HYPERNETWORK = re.compile(r"[0-9]{1,5}\.[01]\.linear")
