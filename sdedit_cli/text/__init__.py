"""Prompts: the tokenizer."""

from __future__ import annotations

from .tokenizer import Encoded, Token, Tokenizer

__all__ = ["Encoded", "Token", "Tokenizer"]
