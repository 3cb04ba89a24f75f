"""Every kind makes the change that its formula says, index by index, on linear layers and convolutions."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from pathlib import Path

import pytest
import torch
from helpers.adapters import CONV, FORMS, LINEAR, POINTWISE, SHAPES, drawn, example, forms
from torch import Tensor

from sdedit_cli.adapters.apply import add_changes
from sdedit_cli.adapters.deltas import KINDS, Misfit, Scaling, bias_delta, check, kinds_of, weight_delta
from sdedit_cli.adapters.lora import Adapter, Patch
from sdedit_cli.adapters.ranks import first_ranks

Formula = Callable[[dict[str, Tensor], Tensor], Tensor]
ALPHA = 3.0
NOTHING = Scaling()
R = 2


def flat(leaf: Tensor) -> Tensor:
    return leaf.reshape(leaf.shape[0], -1)


def summed(weight: Tensor, at: Callable[[int, int, int], Tensor]) -> Tensor:
    """A change of the shape of the weight from its value at (output, input, place in the kernel)."""
    out, inputs, *kernel = weight.shape
    places = range(torch.Size(kernel).numel())
    values = [at(o, i, k) for o in range(out) for i in range(inputs) for k in places]
    return torch.stack(values).reshape(weight.shape)


def lora(x: dict[str, Tensor], w: Tensor) -> Tensor:
    up, down = flat(x["up"]), flat(x["down"])
    area = w[0, 0].numel()
    return summed(w, lambda o, i, k: sum(up[o, r] * down[r, i * area + k] for r in range(R)) * ALPHA / R)


def locon_mid(x: dict[str, Tensor], w: Tensor) -> Tensor:
    up, down, mid = flat(x["up"]), flat(x["down"]), x["mid"].reshape(R, R, -1)
    return summed(
        w,
        lambda o, i, k: sum(mid[m, n, k] * up[o, m] * down[n, i] for m in range(R) for n in range(R)) * ALPHA / R,
    )


def loha(x: dict[str, Tensor], w: Tensor) -> Tensor:
    halves = [
        torch.stack([sum(x[f"hada_w{n}_a"][o, r] * x[f"hada_w{n}_b"][r] for r in range(R)) for o in range(8)])
        for n in (1, 2)
    ]
    return (halves[0] * halves[1] * ALPHA / R).reshape(w.shape)


def loha_tucker(x: dict[str, Tensor], w: Tensor) -> Tensor:
    def half(n: int, p: int, q: int, k: int) -> Tensor:
        t, a, b = x[f"hada_t{n}"].reshape(R, R, -1), x[f"hada_w{n}_a"], x[f"hada_w{n}_b"]
        return sum(t[i, j, k] * b[j, q] * a[i, p] for i in range(R) for j in range(R))

    return summed(w, lambda o, i, k: half(1, o, i, k) * half(2, o, i, k) * ALPHA / R)


def lokr(x: dict[str, Tensor], w: Tensor) -> Tensor:
    first = x["lokr_w1"] if "lokr_w1" in x else x["lokr_w1_a"] @ x["lokr_w1_b"]
    area = w[0, 0].numel()
    if "lokr_t2" in x:
        second = torch.einsum("ijk,ip,jq->pqk", x["lokr_t2"].reshape(R, R, area), x["lokr_w2_a"], x["lokr_w2_b"])
    else:
        second = x["lokr_w2"] if "lokr_w2" in x else x["lokr_w2_a"] @ x["lokr_w2_b"]
        second = second.reshape(second.shape[0], -1, area)
    rank = x["lokr_w2_b"].shape[0] if "lokr_w2_b" in x else x["lokr_w1_b"].shape[0] if "lokr_w1_b" in x else None
    scale = 1.0 if rank is None else ALPHA / rank
    high, wide = second.shape[:2]
    return summed(w, lambda o, i, k: first[o // high, i // wide] * second[o % high, i % wide, k] * scale)


def dora(x: dict[str, Tensor], w: Tensor) -> Tensor:
    v = w + lora(x, w)
    if "dora_scale" in x and x["dora_scale"].shape[0] == 1:
        turned = [x["dora_scale"].flatten()[i] * v[:, i] / v[:, i].norm() for i in range(w.shape[1])]
        return torch.stack(turned, 1) - w
    m = x["magnitude" if "magnitude" in x else "dora_scale"].flatten()
    return torch.stack([m[o] * v[o] / v[o].norm() for o in range(len(w))]) - w


def ia3(x: dict[str, Tensor], w: Tensor) -> Tensor:
    by = x["ia3_weight"].flatten()
    along = 1 if x["ia3_on_input"] else 0
    return torch.stack([w.select(along, at) * by[at] for at in range(w.shape[along])], along)


def glora(x: dict[str, Tensor], w: Tensor) -> Tensor:
    return layout(w, x["a1"], x["a2"], x["b1"], x["b2"])


def glora_first(x: dict[str, Tensor], w: Tensor) -> Tensor:
    return layout(w, x["a2"], x["a1"], x["b2"], x["b1"])


def layout(w: Tensor, a: Tensor, a_down: Tensor, b: Tensor, b_down: Tensor) -> Tensor:
    mixed = flat(a) @ flat(a_down)
    inputs = torch.stack([sum(w[:, i] * mixed[i, j] for i in range(w.shape[1])) for j in range(w.shape[1])], 1)
    return (inputs + (b @ flat(b_down)).reshape(w.shape)) * ALPHA / R


def skew(block: Tensor) -> Tensor:
    return block - block.T


def rotation(q: Tensor) -> Tensor:
    eye = torch.eye(len(q), dtype=q.dtype)
    return (eye + q) @ torch.linalg.inv(eye - q)


def rows_turned(w: Tensor, rotations: list[Tensor]) -> Tensor:
    return (torch.block_diag(*rotations) @ flat(w)).reshape(w.shape)


def oft(x: dict[str, Tensor], w: Tensor) -> Tensor:
    turned = rows_turned(w, [rotation(skew(block)).T for block in x["oft_blocks"]])
    return turned * x.get("rescale", torch.ones(8, 1)).reshape(8, *[1] * (w.dim() - 1)) - w


def oft_first(x: dict[str, Tensor], w: Tensor) -> Tensor:
    return rows_turned(w, [block.T for block in x["oft_diag"]]) - w


def boft(x: dict[str, Tensor], w: Tensor) -> Tensor:
    """Each stage as a permutation of the 8 rows, a block diagonal matrix, and the permutation undone."""
    turned = w
    for stage, blocks in enumerate(x["oft_blocks"]):
        half = 2**stage * blocks.shape[-1] // 2
        order = [c * 2 * half + g * half + k for c in range(4 // half) for k in range(half) for g in range(2)]
        back = torch.argsort(torch.tensor(order))
        turned = rows_turned(turned[order], [rotation(skew(block)) for block in blocks])[back]
    return turned - w


def oft_v2(x: dict[str, Tensor], w: Tensor) -> Tensor:
    vectors = x["oft_R"]
    size = {6: 4, 3: 3}[vectors.shape[1]]
    rotations = []
    for vector in vectors / (2 * sqrt(size - 1)) if "oft_R_scaled" in x else vectors:
        q, numbers = torch.zeros(size, size, dtype=w.dtype), iter(vector)
        for row in range(size):
            for column in range(row + 1, size):
                q[row, column] = next(numbers)
        q = skew(q)
        rotations.append(torch.eye(size, dtype=w.dtype) + 2 * q + 2 * q @ q + 2 * q @ q @ q + q @ q @ q @ q)
    turned = torch.block_diag(*rotations * (flat(w).shape[1] // size // len(rotations)))
    # OneTrainer turns convolutions the other way round than PEFT, whose layers are compared elsewhere.
    side = turned if w.dim() > 2 else turned.T
    return (flat(w) @ side).reshape(w.shape) - w


def full(x: dict[str, Tensor], w: Tensor) -> Tensor:
    return x["diff"].reshape(w.shape)


def sparse(x: dict[str, Tensor], w: Tensor) -> Tensor:
    change = torch.zeros_like(flat(w))
    for row, column, value in zip(*x["bias_indices"].long().tolist(), x["bias_values"], strict=True):
        change[row, column] = value
    return change.reshape(w.shape)


FORMULAS: dict[str, Formula] = {
    **dict.fromkeys(("lora", "lora_4d"), lora),
    **dict.fromkeys((form for form in FORMS if form.startswith("lokr")), lokr),
    **dict.fromkeys(("dora_outputs", "dora_inputs", "dora_peft"), dora),
    **dict.fromkeys(("ia3_outputs", "ia3_inputs"), ia3),
    **dict.fromkeys(("oft", "oft_rescaled"), oft),
    **dict.fromkeys((form for form in FORMS if form.startswith("oft_v2")), oft_v2),
    "locon_mid": locon_mid,
    "loha": loha,
    "loha_tucker": loha_tucker,
    "glora": glora,
    "glora_first": glora_first,
    "boft": boft,
    "oft_first": oft_first,
    "full": full,
    "sparse": sparse,
}
UNSCALED = ("oft", "oft_rescaled", "boft")  # their alpha is a limit, and has tests of its own
# The sides of a weight that a form knows nothing of, and so fits any number of.
BLIND: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("ia3_outputs", "oft", "oft_rescaled", "boft", "oft_first"), ("inputs",)),
    **dict.fromkeys(("ia3_inputs", "oft_v2", "oft_v2_scaled"), ("outputs",)),
    "oft_v2_shared": ("inputs", "outputs"),
}
CASES = [(form, shape) for shape in SHAPES for form in forms(shape)]


def test_every_kind_of_the_table_that_changes_a_weight_has_a_form_here() -> None:
    told = {kind.name for form in FORMS.values() for kind in kinds_of(form)}
    assert {kind.name for kind in KINDS.values() if kind.weight} - told == {"norm"}
    assert FORMULAS.keys() == FORMS.keys()


@pytest.mark.parametrize(("form", "shape"), CASES)
def test_the_change_is_what_the_formula_says_at_every_index(form: str, shape: tuple[int, ...]) -> None:
    draw = drawn()
    leaves, weight = example(form, shape, draw), torch.randn(shape, generator=draw)
    if form not in UNSCALED:
        leaves["alpha"] = torch.tensor([ALPHA])
    expected = FORMULAS[form]({name: leaf.double() for name, leaf in leaves.items()}, weight.double())
    delta = weight_delta(leaves, weight)
    assert delta is not None
    assert delta.dtype == torch.float32
    assert delta.shape == weight.shape
    torch.testing.assert_close(delta.double(), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert float(delta.abs().max()) > 0.1
    assert bias_delta(leaves, torch.zeros(8)) is None


@pytest.mark.parametrize(("form", "shape"), CASES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_precision_of_the_factors_and_of_the_base_is_not_that_of_the_products(
    form: str, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    """Factors in half precision make the very change that the same numbers in float32 make."""
    draw = drawn(1)
    leaves = {name: leaf.to(dtype) for name, leaf in example(form, shape, draw).items()}
    weight = torch.randn(shape, generator=draw).to(dtype)
    delta = weight_delta(leaves, weight)
    assert delta is not None
    exact = weight_delta({name: leaf.float() for name, leaf in leaves.items()}, weight.float())
    assert exact is not None
    assert torch.equal(delta, exact)
    check(leaves, weight.shape)  # which loaders ask before


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_an_alpha_in_half_precision_is_divided_by_the_rank_in_full(dtype: torch.dtype) -> None:
    """On the way on which a product is added without being made by itself, and where ranks are cut, too."""
    draw, rank = drawn(2), 3
    leaves = {"down": torch.randn(rank, 12, generator=draw), "up": torch.randn(8, rank, generator=draw)}
    patch = Patch({**leaves, "alpha": torch.tensor(1.0, dtype=dtype)})
    exact = leaves["up"].double() @ leaves["down"].double() / rank
    adapter = Adapter(Path("one"), {("unet", "layer"): patch}, 3)
    for one in (adapter, first_ranks(adapter, rank)):
        total = add_changes(torch.zeros(8, 12), ((one, 1.0),), ("unet", "layer"), "weight")
        torch.testing.assert_close(total.double(), exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("form", "shape"), CASES)
def test_a_change_is_the_callers_own(form: str, shape: tuple[int, ...]) -> None:
    """Writing over it changes neither the leaves nor the base: another strength is another multiple of the same."""
    draw = drawn(2)
    leaves, weight = example(form, shape, draw), torch.randn(shape, generator=draw)
    kept, base = {name: leaf.clone() for name, leaf in leaves.items()}, weight.clone()
    first = weight_delta(leaves, weight)
    assert first is not None
    doubled = (first * 2).clone()
    first.mul_(2)
    again = weight_delta(leaves, weight)
    assert again is not None
    assert torch.equal(again * 2, doubled)
    assert torch.equal(weight, base)
    assert all(torch.equal(leaf, kept[name]) for name, leaf in leaves.items())


@pytest.mark.parametrize(("form", "shape"), CASES)
def test_a_weight_of_another_size_is_refused(form: str, shape: tuple[int, ...]) -> None:
    leaves = {**example(form, shape, drawn()), "alpha": torch.tensor(0.5)}
    check(leaves, torch.Size(shape))
    for side, other in (("inputs", (8, 15, *shape[2:])), ("outputs", (10, *shape[1:]))):
        if side in BLIND.get(form, ()):
            delta = weight_delta(leaves, torch.zeros(other))
            assert delta is not None
            assert delta.shape == other
            check(leaves, torch.Size(other))
            continue
        with pytest.raises(Misfit):
            check(leaves, torch.Size(other))
        with pytest.raises(Misfit):
            weight_delta(leaves, torch.zeros(other))


@pytest.mark.parametrize("shape", [CONV, POINTWISE, LINEAR])
@pytest.mark.parametrize(
    ("form", "scale"),
    [
        ("lora", 5 / R),
        ("loha", 5 / R),
        ("lokr_second", 5 / R),
        ("lokr_both", 5 / R),
        ("lokr_whole", 1),
        ("glora", 5 / R),
    ],
)
def test_alpha_is_the_files_or_the_headers_and_nothing_without_one(
    form: str, scale: float, shape: tuple[int, ...]
) -> None:
    draw = drawn(3)
    leaves, weight = example(form, shape, draw), torch.randn(shape, generator=draw)

    def change(scaling: Scaling = NOTHING, **more: Tensor) -> Tensor:
        delta = weight_delta({**leaves, **more}, weight, scaling)
        assert delta is not None
        return delta

    one, stabilised = change(), scale * (1 if scale == 1 else sqrt(R))
    torch.testing.assert_close(change(alpha=torch.tensor(5)), one * scale)
    torch.testing.assert_close(change(alpha=torch.tensor([5.0], dtype=torch.bfloat16)), one * scale)
    torch.testing.assert_close(change(Scaling(alpha=5.0)), one * scale)
    torch.testing.assert_close(change(Scaling(alpha=5.0), alpha=torch.tensor(9.0)), one * scale)
    torch.testing.assert_close(change(Scaling(alpha=5.0, rank_stabilised=True)), one * stabilised)
    torch.testing.assert_close(change(Scaling(rank_stabilised=True)), one)
    torch.testing.assert_close(change(alpha=torch.tensor(5.0), scale=torch.tensor(0.25)), one * 0.25)


@pytest.mark.parametrize("form", ["oft", "boft"])
def test_the_alpha_of_a_rotation_limits_the_norm_of_all_its_blocks(form: str) -> None:
    draw = drawn(4)
    leaves, weight = example(form, LINEAR, draw), torch.randn(LINEAR, generator=draw)
    blocks = leaves["oft_blocks"]
    norm = float((blocks - blocks.mT).norm())

    def change(alpha: float | None, **more: Tensor) -> Tensor:
        delta = weight_delta({**leaves, **more, **({} if alpha is None else {"alpha": torch.tensor(alpha)})}, weight)
        assert delta is not None
        return delta

    free = change(None)
    assert torch.equal(change(0.0), free)
    assert torch.equal(change(norm / 8 * 1.01), free)
    halved = change(norm / 16)
    torch.testing.assert_close(halved, change(None, oft_blocks=blocks / 2))
    assert not torch.allclose(halved, free, atol=0.1)


def test_a_rotation_keeps_the_norm_of_every_column() -> None:
    draw = drawn(5)
    for form in ("oft", "boft"):
        weight = torch.randn(CONV, generator=draw)
        delta = weight_delta(example(form, CONV, draw), weight)
        assert delta is not None
        torch.testing.assert_close((weight + delta).flatten(1).norm(dim=0), weight.flatten(1).norm(dim=0))


def test_magnitudes_of_a_square_weight_belong_to_the_side_that_is_not_one() -> None:
    draw = drawn(6)
    weight, up, down = (torch.randn(4, 4, generator=draw) for _ in range(3))
    m = torch.rand(4, generator=draw) + 1
    for shape, axis in (((4, 1), 1), ((1, 4), 0), ((4,), 1), ((4, 1, 1, 1), 1), ((1, 4, 1, 1), 0)):
        delta = weight_delta({"up": up, "down": down, "dora_scale": m.reshape(shape)}, weight)
        assert delta is not None
        torch.testing.assert_close((weight + delta).norm(dim=axis), m)
    for shape in ((4,), (1, 4, 1, 1), (4, 1)):
        delta = weight_delta({"up": up, "down": down, "magnitude": m.reshape(shape)}, weight)
        assert delta is not None
        torch.testing.assert_close((weight + delta).norm(dim=1), m)


def test_a_row_of_zeros_stays_zero_under_a_magnitude() -> None:
    weight = torch.tensor([[0.0, 0.0, 0.0], [0.0, 3.0, 4.0]])
    leaves = {"up": torch.zeros(2, 1), "down": torch.ones(1, 3), "dora_scale": torch.full((2, 1), 100.0)}
    delta = weight_delta(leaves, weight)
    assert delta is not None
    assert torch.equal(weight + delta, weight * 20)


def test_kinds_of_one_module_add_up_and_biases_come_apart() -> None:
    draw = drawn(7)
    weight, bias = torch.randn(CONV, generator=draw), torch.randn(8, generator=draw)
    parts = [example(form, CONV, draw) for form in ("lora", "sparse", "full")]
    alone = [weight_delta(part, weight) for part in parts]
    both = {**parts[0], **parts[1], **parts[2], "diff_b": torch.arange(8.0), "up_bias": torch.ones(8)}
    delta, shift = weight_delta(both, weight), bias_delta({**both, "alpha": torch.tensor(1.0)}, bias)
    assert delta is not None
    assert shift is not None
    torch.testing.assert_close(delta, sum(part for part in alone if part is not None))
    torch.testing.assert_close(shift, torch.arange(8.0) + 1 / R)


def test_norms_and_biases_alone() -> None:
    weight, bias = torch.ones(8), torch.zeros(8)
    leaves = {"w_norm": torch.arange(8.0), "b_norm": torch.ones(8)}
    assert torch.equal(weight_delta(leaves, weight), leaves["w_norm"])  # type: ignore[arg-type]
    assert torch.equal(bias_delta(leaves, bias), leaves["b_norm"])  # type: ignore[arg-type]
    assert weight_delta({"diff_b": torch.ones(8)}, torch.zeros(LINEAR)) is None
    with pytest.raises(Misfit, match=r"diff_b makes a change of the shape \(8,\), the model's is \(9,\)"):
        bias_delta({"diff_b": torch.ones(8)}, torch.zeros(9))
    with pytest.raises(Misfit, match=r"diff_b makes a change of the shape \(8,\)"):
        check({"diff_b": torch.ones(8)}, torch.Size(LINEAR), torch.Size([9]))
    with pytest.raises(Misfit, match="changes the bias of a layer that has none"):
        check({"diff_b": torch.ones(8)}, torch.Size(LINEAR), None)
