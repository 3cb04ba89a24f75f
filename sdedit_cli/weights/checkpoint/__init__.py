"""What a checkpoint is, before a tensor is read: told once, for all who load, convert, describe or check it."""

from __future__ import annotations

from ...text import Tokenizer as Tokenizer
from .checkpoint import Checkpoint as Checkpoint
from .checkpoint import Component as Component
from .open import open_checkpoint as open_checkpoint
