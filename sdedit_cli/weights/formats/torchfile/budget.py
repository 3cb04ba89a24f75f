"""What reading one pickle may cost: operations, and bytes made of its text."""

from __future__ import annotations

from .values import BadPickle

OPERATION_LIMIT = 4_000_000  # 1.x weights take 34,000; with EMA weights and the state of AdamW, 116,000


class Budget:
    """Counts down; `size` is the length of the file, which has no more text than that."""

    def __init__(self, size: int) -> None:
        self._operations = OPERATION_LIMIT
        self._copyable = size

    def spend(self, amount: int) -> None:
        """Count work that a few bytes of the file can ask for again and again."""
        self._operations -= amount
        if self._operations < 0:
            raise BadPickle(
                f"more than {OPERATION_LIMIT} operations, which no weights need; load it where it "
                "was made and save the weights alone"
            )

    def copies(self, count: int) -> None:
        """Count bytes made of text of the file; a pickler makes each once."""
        self._copyable -= count
        if self._copyable < 0:
            raise BadPickle("the same bytes made again and again")
