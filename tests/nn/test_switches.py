"""Every switch gives the oracle's numbers, is undone to the bit, and touches no other model of the process."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.tiny.networks import oracle_of, tiny_clip, tiny_taesd, tiny_unet, tiny_vae
from torch import Tensor

from sdedit_cli.errors import UsageError
from sdedit_cli.nn import Context, ImageSource, Ops
from sdedit_cli.nn.fuse import fuse_qkv, unfuse_qkv
from sdedit_cli.runtime.attention import attention_for

# The oracle warns about its own attribute access and casts.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


X, T, TEXT = torch.randn(2, 4, 8, 8), torch.tensor([900, 10]), torch.randn(2, 7, 32)


def run(model: Any) -> Tensor:
    return model(X, model.embed_time(T), model.context(TEXT))


@pytest.mark.parametrize("slicing", ["auto", "max", 1, 2])
@pytest.mark.parametrize("family", ["sd15", "sd21"])
def test_attention_slicing_equals_the_oracle_s_and_is_undone(family: str, slicing: Any) -> None:
    model, bystander = tiny_unet(family), tiny_unet(family)
    oracle, plain = oracle_of(model), run(model)
    oracle.set_attention_slice(slicing)
    model.ops.attention = attention_for(model, slicing)
    torch.testing.assert_close(run(model), oracle(X, T, TEXT).sample, rtol=0, atol=1e-5)
    assert bystander.ops == Ops()
    model.ops.attention = attention_for(model)
    assert torch.equal(run(model), plain)


@pytest.mark.parametrize("slicing", [0, 3, 1000, "most"])
def test_attention_slices_that_do_not_fit_are_refused(slicing: Any) -> None:
    with pytest.raises(UsageError, match=str(slicing)):
        attention_for(tiny_unet("sd21"), slicing)


def test_xformers_is_asked_for_by_name_when_it_cannot_run() -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU is here: xformers may work")
    with pytest.raises(UsageError, match="xformers"):
        attention_for(tiny_unet(), xformers=True)


def test_replaced_operations_are_called_by_every_layer_that_has_them() -> None:
    calls = dict[str, int]()

    def counted(name: str, op: Any) -> Any:
        def call(*args: Any) -> Tensor:
            calls[name] = calls.get(name, 0) + 1
            return op(*args)

        return call

    model = tiny_unet()
    plain = run(model)
    for name, op in vars(model.ops).items():
        if callable(op):
            setattr(model.ops, name, counted(name, op))
    assert torch.equal(run(model), plain)
    transformers = 2 + 1 + 3
    resnets = 4 + 2 + 6
    assert calls == {
        "attention": 2 * transformers,
        "geglu": transformers,
        "layer_norm": transformers,
        "add_layer_norm": 2 * transformers,
        "group_norm": transformers,
        "group_norm_silu": 2 * resnets + 1,
        "residual": resnets,
    }


def test_channels_last_is_the_same_network_with_biases_added_later() -> None:
    unet, vae = tiny_unet(), tiny_vae()
    picture = torch.rand(2, 3, 16, 16)
    plain = run(unet), vae(picture)
    for model in (unet, vae):
        model.to(memory_format=torch.channels_last)
        model.ops.channels_last = True
    torch.testing.assert_close((run(unet), vae(picture)), plain, rtol=1e-4, atol=1e-5)


def test_a_copy_of_a_model_has_a_table_of_its_own() -> None:
    model = tiny_unet()
    other = copy.deepcopy(model)
    other.ops.attention = attention_for(other, "max")
    assert model.ops == Ops()
    assert {id(m.ops) for m in other.modules() if hasattr(m, "ops")} == {id(other.ops)}


@pytest.mark.parametrize("build", [tiny_unet, tiny_vae])
def test_fused_projections_keep_names_and_values_and_are_undone(build: Any) -> None:
    model = build()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    work = run if build is tiny_unet else (lambda vae: vae.decode(X))
    plain = work(model)

    fuse_qkv(model)
    fuse_qkv(model)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    torch.testing.assert_close(work(model), plain, rtol=0, atol=1e-5)

    unfuse_qkv(model)
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert len({value.untyped_storage().data_ptr() for value in after.values()}) == len(after)
    assert torch.equal(work(model), plain)


def test_fused_projections_equal_the_oracle_s() -> None:
    unet, vae = tiny_unet(), tiny_vae()
    their_unet, their_vae = oracle_of(unet), oracle_of(vae)
    for model in (unet, vae):
        fuse_qkv(model)
    for model in (their_unet, their_vae):
        model.fuse_qkv_projections()
    torch.testing.assert_close(run(unet), their_unet(X, T, TEXT).sample, rtol=0, atol=1e-5)
    torch.testing.assert_close(vae.decode(X), their_vae.decode(X).sample, rtol=0, atol=1e-5)


def test_fused_projections_follow_new_weights_and_new_dtypes() -> None:
    model, other = tiny_unet(seed=1), tiny_unet(seed=2)
    fuse_qkv(model)
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        mine.copy_(theirs)
    torch.testing.assert_close(run(model), run(other), rtol=0, atol=1e-5)
    half = copy.deepcopy(model).to(torch.bfloat16)
    assert half(X.bfloat16(), half.embed_time(T), half.context(TEXT.bfloat16())).dtype is torch.bfloat16
    torch.testing.assert_close(run(half.float()), run(other.to(torch.bfloat16).float()), rtol=0, atol=1e-5)


def test_training_takes_gradients_through_every_parameter_fused_or_not() -> None:
    with torch.enable_grad():
        for fused in (False, True):
            model = tiny_unet().train()
            if fused:
                fuse_qkv(model)
            run(model).square().mean().backward()
            assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_dropout_drops_in_training_only() -> None:
    model = tiny_unet(dropout=0.5)
    assert torch.equal(run(model), run(model))
    model.train()
    assert not torch.equal(run(model), run(model))


@pytest.mark.parametrize("size", [(16, 16), (20, 30), (48, 16), (34, 62), (64, 64)])
@pytest.mark.parametrize("slicing", [False, True])
@pytest.mark.parametrize("tiling", [False, True])
def test_autoencoder_in_pieces_equals_the_oracle_s_and_is_undone(
    size: tuple[int, int], slicing: bool, tiling: bool
) -> None:
    model = tiny_vae()
    oracle, x = oracle_of(model), torch.randn(2, 3, *size)
    latents = torch.randn(2, 4, size[0] // 2, size[1] // 2)
    whole = model.encode(x).mean, model.decode(latents)
    before = model.pieces
    model.pieces = replace(before, slicing=slicing, tiling=tiling)
    for name, wanted in (("slicing", slicing), ("tiling", tiling)):
        if wanted:
            getattr(oracle, f"enable_{name}")()
    torch.testing.assert_close(model.encode(x).mean, oracle.encode(x).latent_dist.mean, rtol=0, atol=1e-5)
    torch.testing.assert_close(model.decode(latents), oracle.decode(latents).sample, rtol=0, atol=1e-5)
    model.pieces = before
    assert torch.equal(model.encode(x).mean, whole[0])
    assert torch.equal(model.decode(latents), whole[1])


@pytest.mark.parametrize("size", [(64, 64), (520, 72), (456, 520)])
@pytest.mark.parametrize("slicing", [False, True])
def test_tiny_autoencoder_in_pieces_equals_the_oracle_s_and_is_undone(size: tuple[int, int], slicing: bool) -> None:
    model = tiny_taesd()
    oracle, x = oracle_of(model), torch.randn(2, 3, *size)
    latents = torch.randn(2, 4, size[0] // 8, size[1] // 8)
    whole = model.encode(x)
    before = model.pieces
    model.pieces = replace(before, slicing=slicing, tiling=True)
    oracle.enable_tiling()
    if slicing:
        oracle.enable_slicing()
    torch.testing.assert_close(model.encode(x), oracle.encode(x).latents, rtol=0, atol=1e-5)
    torch.testing.assert_close(model.decode(latents), oracle.decode(latents).sample, rtol=0, atol=1e-5)
    model.pieces = before
    assert torch.equal(model.encode(x), whole)


def test_context_rows_and_cat_regroup_a_batch_to_the_bit() -> None:
    model = tiny_unet()
    context = model.context(TEXT)
    alone = [context.rows([i]) for i in (0, 1)]
    again = Context.cat([alone[1], alone[0], alone[1]])
    expected = model.context(TEXT).rows(torch.tensor([1, 0, 1]))
    for mine, other in zip(again.kv, expected.kv, strict=True):
        assert torch.equal(mine[0], other[0])
        assert torch.equal(mine[1], other[1])
    assert torch.equal(model(X, model.embed_time(T), Context.cat(alone)), run(model))


def test_image_prompts_add_their_attention_scaled_and_leave_the_text_alone() -> None:
    model = tiny_unet()
    context, image = model.context(TEXT), model.context(torch.randn(2, 4, 32)).kv
    zeros, ones = ((float(scale),) * len(image) for scale in (0, 1))
    emb = model.embed_time(T)
    silent = Context(context.kv, (ImageSource(image, zeros),))
    assert torch.equal(model(X, emb, silent), run(model))
    loud = Context(context.kv, (ImageSource(image, ones),))
    assert not torch.allclose(model(X, emb, loud), run(model))
    regrouped = Context.cat([loud.rows([0]), loud.rows([1])])
    assert torch.equal(model(X, emb, regrouped), model(X, emb, loud))
    with pytest.raises(ValueError, match="image prompts"):
        Context.cat([silent, loud])


def test_a_unet_that_needs_sdxl_conditions_says_so() -> None:
    with pytest.raises(ValueError, match="text_embeds"):
        tiny_unet("sdxl").embed_time(T)


def test_text_encoder_takes_embeddings_in_place_of_token_numbers() -> None:
    model, ids = tiny_clip(), torch.tensor([[49406, 320, 2368, 49407]])
    embeds = model.text_model.embeddings(ids)
    assert torch.equal(model(ids, embeds).last_hidden_state, model(ids).last_hidden_state)
