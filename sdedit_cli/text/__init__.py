"""Prompts: the tokenizer, the grammar of weights, and prompts that change from step to step."""

from __future__ import annotations

from .prompt_schedule import segments as segments
from .tokenizer import Tokenizer as Tokenizer
from .weighting import WeightedChunks as WeightedChunks
from .weighting import apply_weights as apply_weights
from .weighting import encode_weighted as encode_weighted
