"""CLIP's tokenizer: text to rows of ids, on the `tokenizers` library (imported when first used).

Text is composed (NFC), runs of white space become one space, letters become small; then it is split into
contractions, words, single digits and runs of anything else, and each piece into byte pairs (the CLIP paper,
arXiv 2103.00020, section 2.4; byte pairs as in GPT-2).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from itertools import count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError, OutputError, UsageError, shown
from .tokenizer_config import DEFAULT_LENGTH, AddedToken, Settings, read_settings
from .vocabulary import END_OF_WORD, EOS, Vocabulary, packaged_vocabulary, read_vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Engine

_PIECES = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
UNHEARD = "\ufdd0"
"""Begins tokens that are words of the vocabulary too; taken out before texts are compared. Unicode has it for programs'
own use: no text holds it."""
_SURROGATES = re.compile("[\ud800-\udfff]")
_LETTERS_AT_BOTH_ENDS = re.compile(r"\w(?:.*\w)?")


@dataclass(frozen=True)
class Encoded:
    """A row of `model_max_length` ids (start, text, end, padding), and the end of the text that did not fit ('' if all
    of it did), exactly as it was written."""

    ids: list[int]
    truncated: str


@dataclass(frozen=True)
class Token:
    """An id and where its text lies: `text[start:end]`; `further` are the places of an added word after its first."""

    id: int
    start: int
    end: int
    further: bool = False


class Tokenizer:
    """A vocabulary with its special tokens; holds no state that encoding could change."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        if settings.model_max_length < 3:
            raise UsageError(
                f"a prompt of {settings.model_max_length} tokens has no room for a word, expected 3 or more"
            )
        self._engine = engine
        self._settings = settings
        self.model_max_length = settings.model_max_length
        self.bos_id = _known_id(engine, settings.bos)
        self.eos_id = _known_id(engine, settings.eos)
        self.pad_id = _known_id(engine, settings.pad)
        self._places = _places(engine, settings)

    @classmethod
    def from_folder(cls, path: str | Path, max_position_embeddings: int | None = None) -> Tokenizer:
        """The tokenizer of a folder with tokenizer.json, or vocab.json and merges.txt.

        `max_position_embeddings` of the text encoder bounds the row when the folder's own limit is missing or larger.
        Raises ModelError for missing, broken, or contradictory files.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise ModelError(f"{folder}: no such folder; a checkpoint keeps its tokenizer there")
        vocabulary = read_vocabulary(folder)
        settings = read_settings(folder, vocabulary, max_position_embeddings)
        try:
            engine = _build_engine(vocabulary, settings)
        except Exception as error:  # the library raises no narrower class
            raise vocabulary.misfit(str(error).splitlines()[0]) from None
        return cls(engine, settings)

    @classmethod
    def packaged(cls, model_max_length: int = DEFAULT_LENGTH, pad: str = EOS) -> Tokenizer:
        """The tokenizer of Stable Diffusion 1.x, for checkpoints that bring none; with `pad` '!' that of 2.x."""
        known = Settings().added
        # A padding token counts as an added one in CLIP's folders, so it is also found inside of words.
        added = known if pad in [token.content for token in known] else (*known, AddedToken(pad))
        settings = Settings(model_max_length=model_max_length, pad=pad, added=added)
        return cls(_build_engine(packaged_vocabulary(), settings), settings)

    def __len__(self) -> int:
        """Number of tokens, the added ones included: the rows that the text encoder's embedding needs."""
        return self._engine.get_vocab_size(with_added_tokens=True)

    def id_of(self, token: str) -> int | None:
        """The id of a token of the vocabulary, as it is spelled there; None when there is no such token."""
        return self._engine.token_to_id(token)

    def tokens(self, text: str) -> list[Token]:
        """The tokens of a text with their places in it; without start and end, not truncated."""
        # A command line can bring bytes that are not text as lone surrogates, which have no UTF-8.
        encoding = self._engine.encode(_SURROGATES.sub("\ufffd", text), add_special_tokens=False)
        return [
            Token(place, start, end, number > 0)
            for index, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
            for number, place in enumerate(self._places.get(index, (index,)))
        ]

    def ids(self, text: str) -> list[int]:
        """The ids of a text, without start and end, not truncated."""
        return [token.id for token in self.tokens(text)]

    def encode(self, text: str, length: int | None = None) -> Encoded:
        """A row of so many ids (`model_max_length`), padded, and the text that did not fit into it."""
        tokens = self.tokens(text)
        length = length or self.model_max_length
        room = max(length - 2, 0)
        rest = text[tokens[room].start :] if len(tokens) > room else ""
        # What is white space for Python may be a token here.
        return Encoded(self.row([token.id for token in tokens[:room]], length), rest.rstrip() or rest)

    def row(self, ids: list[int], length: int | None = None) -> list[int]:
        """So many ids (`model_max_length`): those given, at most two less, between start and end, then padding."""
        length = length or self.model_max_length
        filled = [self.bos_id, *ids, self.eos_id][-length:]
        return filled + [self.pad_id] * (length - len(filled))

    def with_added_tokens(self, tokens: Iterable[str], *, whole_words: bool = False) -> Tokenizer:
        """A tokenizer that also knows `tokens`, numbered from `len(self)` on; this one stays as it is.

        With `whole_words` those of letters and digits are not found within longer words.
        Raises UsageError for a token that is empty or known already.
        """
        added = self._settings.added
        for token in tokens:
            if not token.strip() or _SURROGATES.search(token):
                raise UsageError(f"'{shown(token)}' cannot be a token; name it by a word such as '<cat-toy>'")
            if self.id_of(token) is not None or token in [known.content for known in added]:
                word = shown(token.removeprefix(UNHEARD))
                raise UsageError(f"the tokenizer knows the token '{word}' already; choose another word")
            alone = whole_words and _LETTERS_AT_BOTH_ENDS.fullmatch(token.removeprefix(UNHEARD)) is not None
            added += (AddedToken(token, normalized=True, special=False, single_word=alone),)
        settings = replace(self._settings, added=added)
        return Tokenizer(_assemble(self._engine.model, settings), settings)

    def learned(self) -> tuple[Tokenizer, list[tuple[str, tuple[int, ...]]]]:
        """The tokenizer without the words that it learned beside its vocabulary, and those, each with its ids.

        Learned are added tokens that are not special, with the ids above all others: textual inversions that a folder
        was saved with.
        """
        size = self._engine.get_vocab_size(with_added_tokens=False)
        ids = {token.content: _known_id(self._engine, token.content) for token in self._settings.added}
        fixed = [token for token in self._settings.added if token.special or ids[token.content] < size]
        rows = max([size, *(ids[token.content] + 1 for token in fixed)])
        words = {token.content for token in self._settings.added if ids[token.content] >= rows}
        added = tuple(token for token in self._settings.added if token.content not in words)
        further = {index for places in self._places.values() for index in places[1:]}
        found = sorted((ids[word], word) for word in words if ids[word] not in further)
        settings = replace(self._settings, added=added)
        places = [(word, self._places.get(index, (index,))) for index, word in found]
        return Tokenizer(_assemble(self._engine.model, settings), settings), places

    def agrees_with(self, other: Tokenizer) -> bool:
        """Whether both give every text the same row of ids, whatever the case of special tokens in it."""
        return self._facts() == other._facts()

    def _facts(self) -> tuple[object, ...]:
        model = json.loads(self._engine.to_str())["model"]
        added = {(self.id_of(t.content), t.content, t.single_word, t.lstrip, t.rstrip) for t in self._settings.added}
        unknown = self.id_of(self._settings.unk)
        row = (self.bos_id, self.eos_id, self.pad_id, unknown, self.model_max_length)
        return model["vocab"], model["merges"], added, row

    def folder_files(self) -> dict[str, str]:
        """Names and contents of the files of a tokenizer folder, for readers of every generation."""
        unified = json.loads(self._engine.to_str())
        model = unified["model"]
        merges = "\n".join(["#version: 0.2", *(" ".join(pair) for pair in model["merges"])])
        special = {f"{role}_token": getattr(self._settings, role) for role in ("bos", "eos", "unk", "pad")}
        decoder = {str(self._engine.token_to_id(token.content)): asdict(token) for token in self._settings.added}
        config = {
            "tokenizer_class": "CLIPTokenizer",
            "model_max_length": self.model_max_length,
            "do_lower_case": True,
            "added_tokens_decoder": dict(sorted(decoder.items(), key=lambda item: int(item[0]))),
            **special,
        }
        contents: dict[str, Any] = {
            "vocab.json": model["vocab"],
            "special_tokens_map.json": special,
            "tokenizer_config.json": config,
            "tokenizer.json": unified,
        }
        written = {name: json.dumps(content, ensure_ascii=False) + "\n" for name, content in contents.items()}
        return written | {"merges.txt": merges + "\n"}

    def save(self, folder: str | Path) -> None:
        """Write a folder that `from_folder` and transformers' CLIPTokenizer read. Raises OutputError when it cannot."""
        target = Path(folder)
        try:
            target.mkdir(parents=True, exist_ok=True)
            for name, content in self.folder_files().items():
                (target / name).write_text(content, encoding="utf-8", newline="\n")
        except OSError as error:
            raise OutputError(f"{target}: the tokenizer cannot be written there ({error})") from None


def _places(engine: Engine, settings: Settings) -> dict[int, tuple[int, ...]]:
    """The ids of added words that take several places in a prompt: `word`, `word_1`, `word_2`, ... are one word's."""
    added = {token.content for token in settings.added}
    found: dict[int, tuple[int, ...]] = {}
    for word in added:
        further = list(takewhile(added.__contains__, (f"{word}_{n}" for n in count(1))))
        if further:
            found[_known_id(engine, word)] = tuple(_known_id(engine, token) for token in (word, *further))
    return found


def _known_id(engine: Engine, token: str) -> int:
    index = engine.token_to_id(token)
    assert index is not None, token
    return index


def _build_engine(vocabulary: Vocabulary, settings: Settings) -> Engine:
    from tokenizers import models

    model = models.BPE(
        vocab=vocabulary.ids,
        merges=vocabulary.merges,
        continuing_subword_prefix="",
        end_of_word_suffix=END_OF_WORD,
        unk_token=settings.unk,
    )
    return _assemble(model, settings)


def _assemble(model: Any, settings: Settings) -> Engine:
    """The parts around a byte pair model, which is shared and not copied."""
    from tokenizers import AddedToken as EngineToken
    from tokenizers import Regex, decoders, normalizers, pre_tokenizers, processors
    from tokenizers import Tokenizer as Engine

    engine: Any = Engine(model)  # Any, as the library's own types leave the lists of tokens open
    steps: list[Any] = [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    if any(token.content.startswith(UNHEARD) for token in settings.added):
        steps.append(normalizers.Replace(UNHEARD, ""))
    engine.normalizer = normalizers.Sequence(steps)
    engine.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    engine.decoder = decoders.ByteLevel()
    engine.add_tokens([EngineToken(**asdict(token)) for token in settings.added])
    # Ours are added by Tokenizer.row; these are for those who read a saved tokenizer.json.
    end, start = ((token, _known_id(engine, token)) for token in (settings.eos, settings.bos))
    engine.post_processor = processors.RobertaProcessing(end, start, trim_offsets=False, add_prefix_space=False)
    return engine
