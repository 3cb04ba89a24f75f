"""Weighted rows of tokens, and embeddings with weights."""

from __future__ import annotations

from itertools import chain

import pytest
import torch
from helpers.text import STARTER
from hypothesis import given, settings
from hypothesis import strategies as st

from sdedit_cli.text import Tokenizer, apply_weights, encode_weighted
from sdedit_cli.text.weighting import Long

PROMPTS = st.lists(
    st.sampled_from(["cat ", "(dog:1.3) ", ", ", "BREAK ", "[sky] ", "incomprehensibly ", "(", ")", "é", "[a:b:2]"]),
    max_size=60,
).map("".join)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.packaged()


SMALL = Tokenizer.from_folder(STARTER)


def rows(tokenizer: Tokenizer, text: str, long: Long = "chunk") -> list[list[int]]:
    """The ids of each row without start, end and padding (the packaged tokenizer pads with the end)."""
    ids = encode_weighted(tokenizer, text, long).ids
    assert all(row[0] == tokenizer.bos_id and row[-1] == tokenizer.eos_id for row in ids)
    assert all(len(row) == tokenizer.model_max_length for row in ids)
    return [row[1 : row.index(tokenizer.eos_id)] for row in ids]


@given(PROMPTS, st.sampled_from(["truncate", "chunk"]))
@settings(deadline=None)
def test_rows_are_rectangular(text: str, long: Long) -> None:
    encoded = encode_weighted(SMALL, text, long)
    assert {len(row) for row in encoded.ids + encoded.weights} == {SMALL.model_max_length}
    assert len(encoded.ids) == len(encoded.weights) >= 1
    for ids, weights in zip(encoded.ids, encoded.weights, strict=True):
        end = ids.index(SMALL.eos_id)
        assert [weights[0], *weights[end:]] == [1.0] * (len(weights) - end + 1)


@given(PROMPTS)
@settings(deadline=None)
def test_chunks_lose_nothing(text: str) -> None:
    """Chunked rows hold the tokens of the whole prompt in order; nothing is reported as cut."""
    encoded = encode_weighted(SMALL, text, "chunk")
    endless = Tokenizer.from_folder(STARTER)
    endless.model_max_length = 2000
    assert encoded.truncated == ""
    assert list(chain(*rows(SMALL, text))) == list(chain(*rows(endless, text)))


def test_without_syntax_a_row_is_that_of_the_tokenizer(tokenizer: Tokenizer) -> None:
    for text in ["", "a photo of a cat", "Word, " * 60]:
        encoded, plain = encode_weighted(tokenizer, text), tokenizer.encode(text)
        assert (encoded.ids, encoded.truncated) == ([plain.ids], plain.truncated)
        assert set(encoded.weights[0]) == {1.0}


def test_weights_lie_on_their_tokens(tokenizer: Tokenizer) -> None:
    encoded = encode_weighted(tokenizer, "a (photo of:1.5) [cat]")
    assert encoded.ids[0][:6] == [49406, 320, 1125, 539, 2368, 49407]
    assert encoded.weights[0][:6] == [1.0, 1.0, 1.5, 1.5, 1 / 1.1, 1.0]


def test_cut_text_is_quoted_without_the_syntax(tokenizer: Tokenizer) -> None:
    encoded = encode_weighted(tokenizer, "word " * 74 + "(Big RED:1.2) bus \\(old\\) ")
    assert encoded.truncated == "RED bus (old)"
    assert encoded.weights[0][75:] == [1.2, 1.0]


def test_each_part_between_breaks_is_cut_by_itself(tokenizer: Tokenizer) -> None:
    encoded = encode_weighted(tokenizer, "word " * 76 + "BREAK short BREAK " + "word " * 75 + "end")
    assert [len(row) for row in rows(tokenizer, "word " * 76 + "BREAK short", "truncate")] == [75, 1]
    assert len(encoded.ids) == 3
    assert encoded.truncated == "word end"


@pytest.mark.parametrize("text", ["BREAK", "BREAK BREAK", " BREAK cat", "cat BREAK", "cat BREAK BREAK BREAK "])
def test_breaks_make_no_empty_rows(tokenizer: Tokenizer, text: str) -> None:
    assert rows(tokenizer, text) == [tokenizer.ids(text.replace("BREAK", ""))]


def test_schedule_counts_as_at_its_first_step(tokenizer: Tokenizer) -> None:
    assert rows(tokenizer, "[cat:dog:0.5] [red|blue]") == [tokenizer.ids("cat red")]


def test_a_word_of_several_vectors_is_not_torn_where_it_fits_into_a_row() -> None:
    """The next row begins with it, as in web UIs, which look for no comma then; a longer word has no other way."""

    def lengths(text: str, room: int) -> list[int]:
        tokenizer = Tokenizer.packaged(model_max_length=room + 2)
        return [len(row) for row in rows(tokenizer.with_added_tokens(["<ks>", "<ks>_1", "<ks>_2", "<ks>_3"]), text)]

    assert lengths("a b c d e f <ks>", 10) == [10]
    assert lengths("a b, c d e f g <ks> h <ks>", 10) == [8, 9]
    assert lengths("a b, c d e f g h i <ks>", 10) == [3, 7, 4]
    assert lengths("a <ks> b", 3) == [1, 3, 2]
    several = "a b c d e f g h i \U0001fae8"  # one letter of several tokens, which may be torn
    assert lengths(several, 10) == [10, len(Tokenizer.packaged().ids(several)) - 10]


def test_short_rows_can_be_filled_without_a_comma() -> None:
    """A row shorter than the reach for commas still makes progress."""
    tokenizer = Tokenizer.packaged(model_max_length=5)
    assert [len(row) for row in rows(tokenizer, ", a b c d e f g")] == [1, 3, 3, 1]


SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 5))


@given(SHAPES, st.integers(0, 2**16), st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64]))
@settings(deadline=None)
def test_weights_of_one_change_no_bit(shape: tuple[int, int, int], seed: int, dtype: torch.dtype) -> None:
    text_BTC = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    assert torch.equal(apply_weights(text_BTC, torch.ones(shape[:2])), text_BTC)


@given(SHAPES, st.integers(0, 2**16))
@settings(deadline=None)
def test_mean_of_each_row_is_restored(shape: tuple[int, int, int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    text_BTC = torch.rand(shape, generator=generator) + 0.1
    weights_BT = torch.rand(shape[:2], generator=generator) * 2 + 0.1
    weighted_BTC = apply_weights(text_BTC, weights_BT)
    assert torch.allclose(weighted_BTC.mean(dim=(1, 2)), text_BTC.mean(dim=(1, 2)), rtol=1e-5)
    ratio_BT = (weighted_BTC / text_BTC).mean(dim=-1) / weights_BT
    assert torch.allclose(ratio_BT, ratio_BT[:, :1].expand_as(ratio_BT), rtol=1e-4)


def test_rows_do_not_depend_on_their_neighbours() -> None:
    text_BTC = torch.randn(2, 7, 4, generator=torch.Generator().manual_seed(0))
    weights_BT = torch.tensor([[1.0] * 7, [1.0, 1.5, 1.5, 0.5, 1.0, 1.0, 1.0]])
    both = apply_weights(text_BTC, weights_BT)
    assert torch.equal(both[1:], apply_weights(text_BTC[1:], weights_BT[1:]))
    assert torch.equal(both[0], text_BTC[0])


def test_weights_of_zero_give_zeros_and_no_division() -> None:
    assert torch.equal(apply_weights(torch.ones(1, 3, 2), torch.zeros(1, 3)), torch.zeros(1, 3, 2))
