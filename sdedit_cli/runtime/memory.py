"""One network at a time on a device that cannot hold all of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn


@dataclass
class Offload:
    """Keeps networks in main memory and brings each to `device` when it is about to run.

    The caller says when (`bring`), as networks are also entered by other methods than `forward`.
    """

    device: torch.device
    present: nn.Module | None = field(default=None, init=False)

    def bring(self, model: nn.Module) -> None:
        """`model` on the device; the one brought before goes back to main memory first."""
        if model is self.present:
            return
        self.release()
        model.to(self.device)
        self.present = model

    def release(self) -> None:
        """The device is empty again."""
        if self.present is not None:
            self.present.to("cpu")
            self.present = None
