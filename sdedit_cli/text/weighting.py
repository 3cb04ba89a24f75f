"""Weighted prompts: rows of ids with a weight for each, and embeddings with the weights applied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from ..errors import UsageError
from .grammar import Break, Piece, parse, pieces
from .prompt_schedule import at_step
from .tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor

COMMA_BACKTRACK = 20
MAX_ROWS = 64  # each costs memory in every step, and nobody writes as much
Long: TypeAlias = Literal["truncate", "chunk"]


@dataclass(frozen=True)
class WeightedChunks:
    """Rows of `model_max_length` ids, weights of the same shape (1 for start, end and padding), and the text that did
    not fit ('' if all of it did)."""

    ids: list[list[int]]
    weights: list[list[float]]
    truncated: str


@dataclass(frozen=True)
class _Weighted:
    id: int
    weight: float
    piece: int
    start: int
    further: bool


def encode_weighted(tokenizer: Tokenizer, text: str, long: Long = "truncate") -> WeightedChunks:
    """The rows of a prompt in the grammar of `grammar.parse`; a schedule counts as at its first step.

    BREAK starts a new row. A part that is longer than a row is cut (`truncate`), or goes on in further rows (`chunk`),
    if possible after one of the last 20 tokens that is a comma. A word of several vectors is not torn if it fits into a
    row: the next one begins with it, as in web UIs. Raises UsageError for more than 64 rows.
    """
    room = tokenizer.model_max_length - 2
    rows: list[list[_Weighted]] = []
    cut: list[str] = []
    for part in _parts(pieces(at_step(parse(text), 0, 1000))):
        tokens = _tokens(tokenizer, part)
        if long == "chunk":
            rows += _chunks(tokens, room, tokenizer.id_of(",</w>"))
            continue
        rows.append(tokens[:room])
        if len(tokens) > room:
            cut.append(_text_from(part, tokens[room]))
    rows = [row for row in rows if row] or [[]]
    if len(rows) > MAX_ROWS:
        raise UsageError(
            f"the prompt makes {len(rows)} parts of {room} tokens; expected at most {MAX_ROWS}: shorten it"
        )
    weights = [[1.0, *(token.weight for token in row)] for row in rows]
    return WeightedChunks(
        [tokenizer.row([token.id for token in row]) for row in rows],
        [row + [1.0] * (tokenizer.model_max_length - len(row)) for row in weights],
        " ".join(cut),
    )


def apply_weights(embeddings_BTC: Tensor, weights_BT: Tensor) -> Tensor:
    """The embeddings times their tokens' weights, each row scaled back to the mean it had; same shape and dtype.

    With weights of 1 the result is the input, bit for bit.
    """
    original_BTC = embeddings_BTC.float() if embeddings_BTC.dtype.itemsize < 4 else embeddings_BTC
    weighted_BTC = original_BTC * weights_BT.to(original_BTC).unsqueeze(-1)
    before_B11 = original_BTC.mean(dim=(1, 2), keepdim=True)
    after_B11 = weighted_BTC.mean(dim=(1, 2), keepdim=True)
    scale_B11 = (before_B11 / after_B11).masked_fill(after_B11 == 0, 1.0)
    return (weighted_BTC * scale_B11).to(embeddings_BTC.dtype)


def _parts(leaves: Sequence[Piece | Break]) -> list[list[Piece]]:
    parts: list[list[Piece]] = [[]]
    for leaf in leaves:
        if isinstance(leaf, Break):
            parts.append([])
        else:
            parts[-1].append(leaf)
    return parts


def _tokens(tokenizer: Tokenizer, part: Sequence[Piece]) -> list[_Weighted]:
    return [
        _Weighted(token.id, piece.weight, index, token.start, token.further)
        for index, piece in enumerate(part)
        for token in tokenizer.tokens(piece.text)
    ]


def _text_from(part: Sequence[Piece], token: _Weighted) -> str:
    rest = part[token.piece].text[token.start :] + "".join(piece.text for piece in part[token.piece + 1 :])
    return rest.rstrip()


def _chunks(tokens: list[_Weighted], room: int, comma: int | None) -> list[list[_Weighted]]:
    chunks: list[list[_Weighted]] = []
    while len(tokens) > room:
        end = room
        while end and tokens[end].further:
            end -= 1
        if end in (0, room) and tokens[room].id != comma:
            near = range(room - 1, max(room - COMMA_BACKTRACK, 0) - 1, -1)
            end = next((index + 1 for index in near if tokens[index].id == comma), room)
        chunks.append(tokens[:end])
        tokens = tokens[end:]
    return [*chunks, tokens]
