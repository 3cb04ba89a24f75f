"""Prompts: the tokenizer, the grammar of weights, and prompts that change from step to step."""

from __future__ import annotations

from .grammar import parse
from .prompt_schedule import prompt_at, segments
from .tokenizer import Encoded, Token, Tokenizer
from .weighting import WeightedChunks, apply_weights, encode_weighted

__all__ = [
    "Encoded",
    "Token",
    "Tokenizer",
    "WeightedChunks",
    "apply_weights",
    "encode_weighted",
    "parse",
    "prompt_at",
    "segments",
]
