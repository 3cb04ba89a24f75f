"""Too little memory for one picture is an error of that picture."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from ..errors import OutOfMemory, is_out_of_memory


@contextmanager
def enough_memory(shown: str) -> Generator[None, None, None]:
    """Within it, a lack of memory is an OutOfMemory that names the picture."""
    try:
        yield
    except Exception as problem:
        if not is_out_of_memory(problem):
            raise
        raise OutOfMemory(f"{shown}: needs more memory than there is; try --max-side 768, or --tile 512") from None
