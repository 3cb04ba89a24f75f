"""Every kind of adapter as one row: the leaves that tell it, and the pure function that makes its change.

A change is at strength 1 and of the base alone: W + Σ s·ΔW, whatever else is loaded. Adding a kind is adding a row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from .kinds.full import check_whole, sparse, whole
from .kinds.leaves import Leaves, Misfit, Scaling
from .kinds.lora import check_lora, check_lora_bias, dora, lora, lora_bias, magnitudes
from .kinds.lycoris import glora, ia3, loha, lokr
from .kinds.orthogonal import oft, oft_first, oft_v2

__all__ = ["KINDS", "REFUSED", "Kind", "Leaves", "Misfit", "Scaling", "bias_delta", "check", "kinds_of", "weight_delta"]

UNSAID = Scaling()
Change = Callable[[Leaves, Tensor, Scaling], Tensor]
Check = Callable[[Leaves, Tensor], object]


@dataclass(frozen=True)
class Kind:
    """A row. `needs` must all be there, or all of one of `or_else`; `may` can be beside them. `words` are for people.

    `weight` and `bias` make the change of a module's parameters. A kind `on` others comes with one of them, and is
    given the weight with their change in it. `fits` raises what the function would raise, and computes nothing.
    `of_base`: the change depends on the weight, and cannot be told without a checkpoint.
    """

    name: str
    words: str
    needs: frozenset[str]
    may: frozenset[str] = frozenset()
    weight: Change | None = None
    bias: Change | None = None
    or_else: tuple[frozenset[str], ...] = ()
    on: frozenset[str] = frozenset()
    fits: Check | None = None
    of_base: bool = False

    @property
    def forms(self) -> tuple[frozenset[str], ...]:
        return (self.needs, *self.or_else)

    @property
    def own(self) -> frozenset[str]:
        """The leaves that no other kind has."""
        return self.needs.union(*self.or_else)


def names(text: str) -> frozenset[str]:
    return frozenset(text.split())


FACTORED = names("lora loha lokr")
SCALES = names("alpha scale")
LOHA = names("hada_w1_a hada_w1_b hada_w2_a hada_w2_b")
# A factor of LoKr is a whole matrix, a product, or (the second) a product through a core.
LOKR = [
    names(f"{first} {second}")
    for first in ("lokr_w1", "lokr_w1_a lokr_w1_b")
    for second in ("lokr_w2", "lokr_w2_a lokr_w2_b", "lokr_w2_a lokr_w2_b lokr_t2")
]
WHOLE_LOKR = LOKR[0]

# Kinds after those that they are `on`.
ROWS = (
    Kind("lora", "LoRA", names("down up"), SCALES | {"mid"}, lora, fits=check_lora),
    Kind("loha", "LoHa", LOHA, SCALES, loha, or_else=(LOHA | names("hada_t1 hada_t2"),)),
    Kind("lokr", "LoKr", LOKR[0], SCALES, lokr, or_else=tuple(LOKR[1:])),
    Kind(
        "dora",
        "DoRA",
        names("dora_scale"),
        weight=dora,
        or_else=(names("magnitude"),),
        on=FACTORED,
        fits=magnitudes,
        of_base=True,
    ),
    Kind("lora_bias", "bias of LoRA", names("up_bias"), bias=lora_bias, on=names("lora"), fits=check_lora_bias),
    Kind("ia3", "(IA)³", names("ia3_weight ia3_on_input"), names("alpha"), ia3, of_base=True),
    Kind("glora", "GLoRA", names("a1 a2 b1 b2"), SCALES, glora, of_base=True),
    Kind("oft", "OFT or BOFT", names("oft_blocks"), names("alpha rescale"), oft, of_base=True),
    Kind("oft_first", "OFT, first form", names("oft_diag"), names("alpha rescale"), oft_first, of_base=True),
    Kind("oft_v2", "OFTv2", names("oft_R"), names("alpha oft_R_scaled"), oft_v2, of_base=True),
    Kind("full", "full change", names("diff"), names("alpha"), whole("diff"), fits=check_whole("diff")),
    Kind("bias", "bias", names("diff_b"), names("alpha"), bias=whole("diff_b"), fits=check_whole("diff_b")),
    Kind("norm", "norm", names("w_norm"), names("alpha"), whole("w_norm"), fits=check_whole("w_norm")),
    Kind(
        "norm_bias", "bias of a norm", names("b_norm"), names("alpha"), bias=whole("b_norm"), fits=check_whole("b_norm")
    ),
    Kind("sparse", "sparse rest", names("bias_indices bias_values bias_size"), names("alpha"), sparse),
)
KINDS: Mapping[str, Kind] = {kind.name: kind for kind in ROWS}

T_LORA = "T-LoRA: what it starts from is not in the file"
SET = "it replaces a weight, which no adapter of Stable Diffusion 1 or 2 does"
OLD_OFT = "OFT of PEFT before 0.16, whose tensors have no meaning any more: train it again, or convert it there"
WORDS = "PEFT's LoRA of a table of words, which is not read: train linear layers, or words as an embedding"
# Leaves, as files spell them, of what cannot be applied: why.
REFUSED: Mapping[str, str] = {
    "q_layer": T_LORA,
    "p_layer": T_LORA,
    "lambda_layer": T_LORA,
    "set_weight": SET,
    "reshape_weight": SET,
    "oft_r": OLD_OFT,
    "oft_s": OLD_OFT,
    "lora_E": "AdaLoRA, whose singular values lie between the factors: merge it with PEFT, or train LoRA",
    "lora_embedding_A": WORDS,
    "lora_embedding_B": WORDS,
}


def kinds_of(leaves: Collection[str]) -> tuple[Kind, ...]:
    """The kinds that one module's leaves are, in the order of the table.

    Raises Misfit for half a kind, for leaves that belong to none, and for what is refused.
    """
    return _kinds_of(frozenset(leaves))


@cache  # the modules of a file have few sets of leaves among them
def _kinds_of(given: frozenset[str]) -> tuple[Kind, ...]:
    for name in sorted(given & REFUSED.keys()):
        raise Misfit(f"{name} is refused: {REFUSED[name]}")
    found = tuple(kind for kind in ROWS if kind.own & given)
    for kind in found:
        check_complete(kind, given)
        if kind.on and not any(other.name in kind.on for other in found):
            bases = " or ".join(KINDS[name].words for name in sorted(kind.on))
            raise Misfit(
                f"{listed(kind.own & given)} ({kind.words}) stands alone: it changes {bases}, which is missing"
            )
    if not found:
        raise Misfit(f"{listed(given)} is no kind of adapter" if given else "nothing is there")
    if spare := given.difference(*(kind.own | kind.may for kind in found)):
        raise Misfit(f"{listed(spare)} is left over beside {', '.join(kind.words for kind in found)}")
    return found


def is_product(leaves: Collection[str]) -> bool:
    """Whether the leaves are two factors and nothing else: their change needs not be made before it is added."""
    return kinds_of(leaves) == (KINDS["lora"],) and "mid" not in leaves


def listed(leaves: Collection[str]) -> str:
    return ", ".join(sorted(leaves))


def check_complete(kind: Kind, given: frozenset[str]) -> None:
    """Raises Misfit unless the leaves are exactly one form of the kind; says what the nearest form lacks or has not."""
    mine = kind.own & given
    nearest = min(kind.forms, key=lambda form: (len(form ^ mine), len(mine - form)))
    if missing := nearest - mine:
        raise Misfit(f"half of {kind.words}: {listed(missing)} is missing beside {listed(mine)}")
    if surplus := mine - nearest:
        raise Misfit(f"{kind.words} in two forms: {listed(surplus)} beside {listed(nearest)}")


def weight_delta(leaves: Leaves, weight: Tensor, scaling: Scaling = UNSAID) -> Tensor | None:
    """ΔW at strength 1, float32, in the shape of `weight`; None if the leaves change the bias alone.

    Products are taken in float32, whatever the leaves come in; the result is the caller's own. Raises Misfit as
    `kinds_of`, and for factors of two ranks or of another size than the weight.
    """
    base, leaves = weight.float(), floats(leaves)
    total: Tensor | None = None
    for kind in kinds_of(leaves):
        if kind.weight is not None:
            onto = base if total is None or not kind.on else base + total
            total = added(total, kind.weight(leaves, onto, scaling))
    return total


def bias_delta(leaves: Leaves, bias: Tensor, scaling: Scaling = UNSAID) -> Tensor | None:
    """The change of the module's bias at strength 1, float32; None if the leaves do not change it. Raises Misfit."""
    base, leaves = bias.float(), floats(leaves)
    total: Tensor | None = None
    for kind in kinds_of(leaves):
        if kind.bias is not None:
            total = added(total, kind.bias(leaves, base, scaling))
    return total


def floats(leaves: Leaves) -> Leaves:
    return {name: leaf.float() for name, leaf in leaves.items()}


def added(total: Tensor | None, change: Tensor) -> Tensor:
    return change if total is None else total.add_(change)


# Leaves whose values decide; the others are known by their shapes.
READ = names("ia3_on_input bias_indices bias_values bias_size")


def check(leaves: Leaves, weight: torch.Size, bias: torch.Size | None = None) -> None:
    """Raises Misfit where `weight_delta` or `bias_delta` would for parameters of these shapes, and computes nothing."""
    for kind in kinds_of(leaves):
        shape = weight if kind.weight else bias
        if shape is None:
            raise Misfit("it changes the bias of a layer that has none")
        parameter, change = torch.empty(shape, device="meta"), kind.weight or kind.bias
        if kind.fits:
            kind.fits(leaves, parameter)
        elif change:
            # The rarer kinds run on shapes alone, in the precision that products are taken in: the first time takes a
            # second, which no LoRA should pay.
            shapes = {
                name: leaf if name in READ else torch.empty(leaf.shape, device="meta") for name, leaf in leaves.items()
            }
            change(shapes, parameter, UNSAID)
