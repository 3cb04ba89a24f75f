"""What is told while a model is opened, given adapters, and has prompts read.

'load': `model`, `device`, `dtype`, `threads`. 'adapter': `summary`, and of LoRAs the keys that are `passed_over` and
what else is `unused`. 'truncated': the `text` that did not fit into the `limit` tokens of a prompt.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

OnEvent = Callable[[str, dict[str, Any]], None]


def ignored(event: str, facts: dict[str, Any]) -> None:
    """Hears an event that nobody else is to hear."""
    del event, facts
