"""Prompts that were read before: their embeddings are kept by whoever can, and need no text encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace

import torch

from ..configs.unet import UNetConfig
from ..options import Edit
from .engine import guides
from .prompts import Asked, Kept, Read, asked


@dataclass(frozen=True)
class Readings:
    """Readings of one text encoder with its adapters. `circumstances` is what its last bits depend on besides."""

    kept: Kept | None = None
    circumstances: Mapping[str, str] = field(default_factory=dict[str, str])
    device: torch.device | str = "cpu"

    def suffice(self, edit: Edit, unet: object) -> bool:
        """Whether all that an edit on a UNet of this config has to read is kept."""
        if self.kept is None or edit.prompt_embeds is not None or not isinstance(unet, UNetConfig):
            return False
        wanted = {one for part in edit.rounds() for _, one in asked(part, guides(unet, edit.cfg_scale))}
        return all(self.kept.get(self._facts(one)) is not None for one in wanted)

    def of(self, texts: Asked, read: Callable[[Asked], Read]) -> Read:
        """The reading of texts: that which is kept, else what `read` makes of them, which is kept from now on."""
        if self.kept is None:
            return read(texts)
        facts = self._facts(texts)
        found = self.kept.get(facts)
        if found is None:
            found = read(texts)
            self.kept.put(facts, replace(found, embeds_BTC=found.embeds_BTC.cpu()))
            return found
        return replace(found, embeds_BTC=found.embeds_BTC.to(self.device))

    def _facts(self, texts: Asked) -> dict[str, object]:
        return {**self.circumstances, **asdict(texts)}
