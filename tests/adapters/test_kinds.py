"""The leaves of a module are whole kinds, or what is wrong with them is said by name."""

from __future__ import annotations

import pytest
import torch
from helpers.adapters import CONV, FORMS, LINEAR, drawn, example
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sdedit_cli.adapters.deltas import KINDS, REFUSED, Misfit, check, kinds_of, weight_delta


def told(*leaves: str) -> list[str]:
    return [kind.name for kind in kinds_of(leaves)]


@pytest.mark.parametrize(
    ("leaves", "kinds"),
    [
        ("up down", "lora"),
        ("down alpha up", "lora"),
        ("up down mid scale", "lora"),
        ("up down alpha diff_b", "lora bias"),
        ("up down bias_indices bias_values bias_size", "lora sparse"),
        ("up down up_bias magnitude", "lora dora lora_bias"),
        ("lokr_w1 lokr_w2 dora_scale alpha", "lokr dora"),
        ("hada_w1_a hada_w1_b hada_w2_a hada_w2_b dora_scale", "loha dora"),
        ("lokr_w1_a lokr_w1_b lokr_w2_a lokr_w2_b lokr_t2", "lokr"),
        ("diff diff_b", "full bias"),
        ("w_norm b_norm", "norm norm_bias"),
        ("w_norm", "norm"),
        ("ia3_weight ia3_on_input", "ia3"),
        ("a1 a2 b1 b2 alpha", "glora"),
        ("oft_blocks rescale alpha", "oft"),
        ("oft_diag", "oft_first"),
        ("oft_R oft_R_scaled", "oft_v2"),
        ("up down hada_w1_a hada_w1_b hada_w2_a hada_w2_b", "lora loha"),
    ],
)
def test_the_leaves_tell_the_kinds(leaves: str, kinds: str) -> None:
    assert told(*leaves.split()) == kinds.split()


@pytest.mark.parametrize(
    ("leaves", "words"),
    [
        ("up", "half of LoRA: down is missing beside up"),
        ("down alpha", "half of LoRA: up is missing beside down"),
        ("hada_w1_a hada_w1_b hada_w2_a", "half of LoHa: hada_w2_b is missing beside hada_w1_a, hada_w1_b, hada_w2_a"),
        ("hada_w1_a hada_w1_b hada_w2_a hada_w2_b hada_t1", "half of LoHa: hada_t2 is missing beside"),
        ("lokr_w1_a lokr_w2", "half of LoKr: lokr_w1_b is missing beside lokr_w1_a, lokr_w2"),
        ("lokr_w1", "half of LoKr: lokr_w2 is missing beside lokr_w1"),
        ("lokr_w1 lokr_w2 lokr_w2_a lokr_w2_b", "LoKr in two forms: lokr_w2 beside lokr_w1, lokr_w2_a, lokr_w2_b"),
        ("ia3_weight", r"half of \(IA\)³: ia3_on_input is missing"),
        ("a1 a2 b1", "half of GLoRA: b2 is missing"),
        ("bias_indices bias_values", "half of sparse rest: bias_size is missing"),
        ("dora_scale", r"dora_scale \(DoRA\) stands alone: it changes LoHa or LoKr or LoRA, which is missing"),
        ("oft_R dora_scale", "stands alone"),
        ("up down dora_scale magnitude", "DoRA in two forms: magnitude beside dora_scale"),
        ("lokr_w1 lokr_w2 up_bias", r"up_bias \(bias of LoRA\) stands alone: it changes LoRA"),
        ("alpha", "alpha is no kind of adapter"),
        ("rescale alpha", "alpha, rescale is no kind of adapter"),
        ("up down rescale", "rescale is left over beside LoRA"),
        ("diff scale", "scale is left over beside full change"),
        ("up down weights", "weights is left over beside LoRA"),
        ("", "nothing is there"),
        ("q_layer p_layer lambda_layer alpha", "lambda_layer is refused: T-LoRA"),
        ("set_weight", "set_weight is refused: it replaces a weight"),
        ("up down reshape_weight", "reshape_weight is refused"),
        ("oft_r", "oft_r is refused: OFT of PEFT before 0.16"),
    ],
)
def test_what_is_half_there_or_left_over_is_named(leaves: str, words: str) -> None:
    with pytest.raises(Misfit, match=words):
        kinds_of(leaves.split())


def test_no_leaf_belongs_to_two_kinds_and_no_refused_one_to_any() -> None:
    seen: set[str] = set()
    for kind in KINDS.values():
        assert not kind.own & seen
        seen |= kind.own
        assert kind.on <= KINDS.keys()
        assert (kind.weight is None) != (kind.bias is None)
    assert not REFUSED.keys() & (seen | {leaf for kind in KINDS.values() for leaf in kind.may})


@given(st.sets(st.sampled_from(sorted({leaf for kind in KINDS.values() for leaf in kind.own | kind.may}))))
def test_any_set_of_leaves_is_covered_by_its_kinds_or_refused(leaves: set[str]) -> None:
    try:
        found = kinds_of(leaves)
    except Misfit:
        return
    assert leaves <= {leaf for kind in found for leaf in kind.own | kind.may}
    assert all(any(form <= leaves for form in kind.forms) for kind in found)


# Without the core of LoKr its factors are those of another form, and of another size.
OPTIONAL = {"lokr_t2", "mid", "dora_scale", "magnitude", "rescale", "oft_R_scaled"}


@pytest.mark.parametrize(("form", "leaf"), [(form, leaf) for form in FORMS for leaf in FORMS[form]])
def test_a_form_without_one_of_its_leaves_is_refused_unless_that_one_may_be_missing(form: str, leaf: str) -> None:
    rest = FORMS[form].keys() - {leaf}
    if leaf in OPTIONAL:
        assert kinds_of(rest)
        return
    with pytest.raises(Misfit):
        kinds_of(rest)


def zeros(**shapes: tuple[int, ...]) -> dict[str, Tensor]:
    return {name: torch.zeros(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("leaves", "weight", "words"),
    [
        (zeros(up=(8, 2), down=(3, 12)), LINEAR, "different ranks: up 2, down 3"),
        (zeros(up=(8, 2), down=(3, 12, 1, 1), mid=(2, 2, 3, 3)), CONV, "different ranks: mid 2, down 3"),
        (zeros(up=(8, 3), down=(2, 12, 1, 1), mid=(2, 2, 3, 3)), CONV, "different ranks: up 3, mid 2"),
        (zeros(up=(8, 2), down=(2, 12), mid=(2, 2)), LINEAR, r"mid has the shape \(2, 2\)"),
        (zeros(up=(8, 0), down=(0, 12)), LINEAR, "their rank is 0"),
        (zeros(up=(8,), down=(1, 12)), LINEAR, r"up has the shape \(8,\), a matrix is expected"),
        (
            zeros(up=(8, 2), down=(2, 13)),
            LINEAR,
            r"LoRA makes a change of the shape \(8, 13\), the model's is \(8, 12\)",
        ),
        (zeros(up=(8, 2), down=(2, 8)), (8,), r"the weight has the shape \(8,\)"),
        (zeros(up=(8, 2), down=(2, 12), alpha=(2,)), LINEAR, r"alpha has the shape \(2,\), one number"),
        (zeros(hada_w1_a=(8, 2), hada_w1_b=(2, 12), hada_w2_a=(8, 3), hada_w2_b=(3, 12)), LINEAR, "different ranks"),
        (zeros(hada_w1_a=(8, 2), hada_w1_b=(3, 12), hada_w2_a=(8, 3), hada_w2_b=(3, 12)), LINEAR, "different ranks"),
        (zeros(hada_w1_a=(8, 2), hada_w1_b=(2, 12), hada_w2_a=(8, 2), hada_w2_b=(2, 1)), LINEAR, "the halves of LoHa"),
        (
            zeros(lokr_w1=(2, 3), lokr_w2=(4, 5)),
            LINEAR,
            r"product of \(2, 3\) and \(4, 5\) is not of the weight's size",
        ),
        (zeros(lokr_w1=(2, 27), lokr_w2=(4, 4)), CONV, "is not of the weight's size"),
        (zeros(lokr_w1=(2, 3, 3, 3), lokr_w2=(4, 4, 1, 1)), CONV, "the first factor of LoKr has the shape"),
        (
            zeros(lokr_w1=(2, 3), lokr_w2_a=(4, 2), lokr_w2_b=(3, 4)),
            LINEAR,
            "different ranks: lokr_w2_a 2, lokr_w2_b 3",
        ),
        (zeros(ia3_weight=(9,), ia3_on_input=()), LINEAR, r"\(IA\)³ has 9 numbers, the weight 8 outputs"),
        (zeros(a1=(12, 2), a2=(3, 12), b1=(8, 2), b2=(2, 12)), LINEAR, "in neither of its layouts"),
        (zeros(up=(8, 2), down=(2, 12), dora_scale=(12,)), LINEAR, r"dora_scale has the shape \(12,\); \(8, 1\) or"),
        (zeros(up=(8, 2), down=(2, 12), magnitude=(12,)), LINEAR, "has 12 numbers, the weight 8 outputs"),
        (zeros(oft_blocks=(3, 3, 3)), LINEAR, "cuts the weight's 8 outputs into no blocks"),
        (zeros(oft_blocks=(2, 4, 3)), LINEAR, "into no blocks"),
        (zeros(oft_blocks=(4, 4, 2, 2)), LINEAR, "8 outputs do not have 4 butterfly stages"),
        (zeros(oft_blocks=(1, 8, 1, 1)), LINEAR, "do not have 1 butterfly stages"),
        (zeros(oft_blocks=(2, 4, 4), rescale=(9, 1)), LINEAR, "rescale has 9 numbers"),
        (zeros(oft_diag=(4, 2, 2, 2)), LINEAR, "into no blocks"),
        (zeros(oft_R=(3, 5)), LINEAR, "into no blocks"),
        (zeros(oft_R=(2, 6)), LINEAR, "into no blocks"),
        (zeros(diff=(8, 12, 3, 3)), (8, 12, 1, 1), "diff makes a change"),
        (zeros(diff=(12, 8)), LINEAR, "diff makes a change"),
        (zeros(w_norm=(9,)), (8,), r"w_norm makes a change of the shape \(9,\), the model's is \(8,\)"),
    ],
)
def test_factors_of_another_size_are_refused(leaves: dict[str, Tensor], weight: tuple[int, ...], words: str) -> None:
    with pytest.raises(Misfit, match=words):
        weight_delta(leaves, torch.zeros(weight))
    with pytest.raises(Misfit, match=words):
        check(leaves, torch.Size(weight))


@pytest.mark.parametrize(
    ("leaf", "value", "words"),
    [
        ("bias_size", [12, 8], r"of the size \(12, 8\), the weight of \(8, 12\)"),
        ("bias_indices", [[0, 0, 3, 7, 8], [0, 5, 11, 2, 11]], "outside of its 8 rows and 12 columns"),
        ("bias_indices", [[0, 0, 3, 7, 7], [0, 5, 12, 2, 11]], "outside of its 8 rows and 12 columns"),
        ("bias_indices", [[0, 0, 3, 7, 7], [0, 5, -1, 2, 11]], "outside of its 8 rows and 12 columns"),
        ("bias_values", [1.0, 2.0], r"bias_indices has the shape \(2, 5\), bias_values \(2,\)"),
    ],
)
def test_a_sparse_rest_of_another_weight_is_refused(leaf: str, value: list[int], words: str) -> None:
    leaves = {**example("sparse", LINEAR, drawn()), leaf: torch.tensor(value)}
    with pytest.raises(Misfit, match=words):
        weight_delta(leaves, torch.zeros(LINEAR))


def test_entries_of_a_sparse_rest_that_are_there_twice_add_up() -> None:
    leaves = {**example("sparse", LINEAR, drawn()), "bias_indices": torch.tensor([[7] * 5, [3] * 5], dtype=torch.int16)}
    delta = weight_delta(leaves, torch.zeros(LINEAR))
    assert delta is not None
    assert torch.count_nonzero(delta) == 1
    torch.testing.assert_close(delta[7, 3], leaves["bias_values"].sum())


def test_a_sparse_rest_may_be_empty() -> None:
    leaves = {"bias_indices": torch.zeros(2, 0), "bias_values": torch.zeros(0), "bias_size": torch.tensor([8.0, 12.0])}
    assert torch.equal(weight_delta(leaves, torch.ones(LINEAR)), torch.zeros(LINEAR))  # type: ignore[arg-type]
