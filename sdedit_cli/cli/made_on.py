"""What a picture says of where it was made: what its last bits depend on, and never which machine it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..batch.keys import NUMERIC_VERSION


def made_on(loaded: Mapping[str, Any], together: int | None) -> dict[str, str]:
    """The record's `made_on`, by what was loaded and how many pictures are edited `together` (None: one by one)."""
    import PIL
    import torch

    device = str(loaded.get("device", "")).partition(":")[0]
    # Elsewhere than on the CPU the number of its threads changes nothing.
    on_cpu = device in ("cpu", "openvino cpu")
    threads = {"threads": str(loaded["threads"])} if on_cpu and loaded.get("threads") else {}
    several = {"together": str(together)} if together not in (None, 1) else {}
    versions = {"numeric": str(NUMERIC_VERSION), "torch": str(torch.__version__), "pillow": PIL.__version__}
    if device.startswith("openvino"):
        from ..runtime.openvino.machine import release

        versions["openvino"] = release()
    return {**versions, "device": device, **threads, **several}
