"""What belongs to a model beside its weights goes where they go: scheduler class, tokenizer, padding, given configs;
and what a folder lacks, or has too much, is said by `convert` as by a load."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny.single_files import save_single_file, shared
from safetensors.torch import load_file, save_file

from sdedit_cli.errors import ModelError
from sdedit_cli.text import Tokenizer
from sdedit_cli.weights import open_checkpoint
from sdedit_cli.weights.checkpoint import notes
from sdedit_cli.weights.describe import describe
from sdedit_cli.weights.formats.open import open_weights
from sdedit_cli.weights.load.networks import Loaded, load_networks
from sdedit_cli.weights.write.convert import convert

UNET = "unet/diffusion_pytorch_model.safetensors"


def copied(family: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shared(family)[0], tmp_path / "model"))


def edit_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def converted(folder: Path, tmp_path: Path, config: Path | None = None) -> list[Loaded]:
    """The model as a single file and as a folder of ours."""
    convert(folder, tmp_path / "new.safetensors", config=config)
    convert(folder, tmp_path / "new", config=config)
    return [load_networks(tmp_path / "new.safetensors"), load_networks(tmp_path / "new")]


def test_the_class_of_the_index_is_the_scheduler_wherever_the_model_goes(tmp_path: Path) -> None:
    """diffusers takes the class of model_index.json; that of the scheduler's own file may be an older choice."""
    folder = copied("sd15", tmp_path)
    edit_json(folder / "model_index.json", scheduler=["diffusers", "EulerDiscreteScheduler"])
    single = save_single_file(tmp_path / "file.safetensors", folder, "sd15")
    for model in (*converted(folder, tmp_path), load_networks(single, config=folder)):
        assert model.scheduler_config is not None
        assert model.scheduler_config["_class_name"] == "EulerDiscreteScheduler"


def test_a_scheduler_without_a_class_is_refused_by_all(tmp_path: Path) -> None:
    folder = copied("sd15", tmp_path)
    (folder / "model_index.json").unlink()
    config = folder / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps({"beta_start": 0.1}))
    for use in (load_networks, lambda path: convert(path, tmp_path / "new")):
        with pytest.raises(ModelError, match=r"scheduler_config\.json: has no '_class_name'"):
            use(folder)


def grown(folder: Path) -> None:
    """The embedding of one more token, which the tokenizer knows: a concept baked into the model."""
    path = folder / "text_encoder" / "model.safetensors"
    state = load_file(path)
    name = next(n for n in state if n.endswith("token_embedding.weight"))
    state[name] = torch.cat([state[name], torch.ones(1, state[name].shape[1])])
    save_file(state, path, {"format": "pt"})
    edit_json(folder / "text_encoder" / "config.json", vocab_size=len(state[name]))
    Tokenizer.packaged().with_added_tokens(["<cat>"]).save(folder / "tokenizer")


TOKENIZERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "added token": ("sd15", grown),
    "1.x padded as 2.x": ("sd15", lambda folder: Tokenizer.packaged(pad="!").save(folder / "tokenizer")),
    "2.x padded as 1.x": ("sd21", lambda folder: Tokenizer.packaged().save(folder / "tokenizer")),
    "none, 1.x": ("sd15", lambda folder: shutil.rmtree(folder / "tokenizer")),
    "none, 2.x": ("sd21", lambda folder: shutil.rmtree(folder / "tokenizer")),
}


@pytest.mark.parametrize("case", TOKENIZERS)
def test_prompts_become_the_same_ids_wherever_the_model_goes(case: str, tmp_path: Path) -> None:
    family, change = TOKENIZERS[case]
    folder = copied(family, tmp_path)
    change(folder)
    expected = load_networks(folder).tokenizer
    assert expected is not None
    for model in converted(folder, tmp_path):
        assert model.tokenizer is not None
        assert model.tokenizer.encode("a <cat> of the sea") == expected.encode("a <cat> of the sea")


def test_a_given_tokenizer_travels_and_the_familys_own_takes_no_room(tmp_path: Path) -> None:
    plain, other = shared("sd15")[0], copied("sd15", tmp_path)
    Tokenizer.packaged(pad="!").save(other / "tokenizer")
    single = save_single_file(tmp_path / "file.safetensors", plain, "sd15")
    convert(single, tmp_path / "new.safetensors", config=other)
    tokenizer = load_networks(tmp_path / "new.safetensors").tokenizer
    assert tokenizer is not None
    assert tokenizer.pad_id == tokenizer.id_of("!")
    convert(plain, tmp_path / "plain.safetensors")
    assert "sdedit.tokenizer" not in describe(tmp_path / "plain.safetensors").metadata


def test_a_2x_folder_without_a_tokenizer_pads_as_2x(tmp_path: Path) -> None:
    folder = copied("sd21", tmp_path)
    expected = load_networks(folder).tokenizer
    shutil.rmtree(folder / "tokenizer")
    found = load_networks(folder).tokenizer
    assert expected is not None
    assert found is not None
    assert found.encode("a cat") == expected.encode("a cat")


def extra_tensor(folder: Path) -> None:
    state = load_file(folder / UNET)
    save_file({**state, "motion.weight": torch.ones(2)}, folder / UNET)


def whole_numbers(folder: Path) -> None:
    state = load_file(folder / UNET)
    save_file({**state, "conv_in.weight": state["conv_in.weight"].to(torch.int8)}, folder / UNET)


def listed_twice(folder: Path) -> None:
    path = folder / "vae/diffusion_pytorch_model.safetensors"
    state = load_file(path)
    name = next(n for n in state if n.endswith("to_q.weight"))
    save_file({**state, name.replace("to_q", "query"): state[name].clone()}, path)


def broken_index(folder: Path) -> None:
    (folder / "model_index.json").write_text("{")


def empty_tokenizer(folder: Path) -> None:
    for path in (folder / "tokenizer").iterdir():
        path.unlink()


# what is done to a folder, and what `convert` then says
DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "unknown tensor": (extra_tensor, r"UNet has 1 tensors that are not known \(motion\.weight\)"),
    "two names for one": (listed_twice, r"VAE has 1 tensors that are not known"),
    "quantised": (whole_numbers, r"'conv_in\.weight' holds int8 numbers"),
    "no unet": (lambda folder: shutil.rmtree(folder / "unet"), r"has no unet/config\.json"),
    "no unet config": (lambda folder: (folder / "unet/config.json").unlink(), r"has no unet/config\.json"),
    "no scheduler": (lambda folder: shutil.rmtree(folder / "scheduler"), r"scheduler/scheduler_config\.json"),
    "broken index": (broken_index, "cannot be read as JSON"),
    "empty tokenizer": (empty_tokenizer, r"no vocab\.json"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_a_folder_that_cannot_be_run_is_not_converted(case: str, tmp_path: Path) -> None:
    damage, said = DAMAGES[case]
    folder = copied("sd15", tmp_path)
    damage(folder)
    for target in ("new", "new.safetensors"):
        with pytest.raises(ModelError, match=said):
            convert(folder, tmp_path / target)
        assert not (tmp_path / target).exists()


def test_info_says_what_a_folder_lacks_and_one_component_of_it_can_be_had(tmp_path: Path) -> None:
    folder = copied("sd15", tmp_path)
    shutil.rmtree(folder / "unet")
    assert "has no unet/config.json" in describe(folder).note
    assert convert(folder, tmp_path / "vae", only="vae").kind == "VAE only"


def test_a_config_folder_that_says_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    folder, single = shared("sd15")
    uses: list[Callable[[], object]] = [
        lambda: load_networks(single, config=tmp_path / "empty"),
        lambda: convert(single, tmp_path / "new", config=folder / "unet"),
        lambda: convert(folder, tmp_path / "new", config=tmp_path / "empty"),
    ]
    for use in uses:
        with pytest.raises(ModelError, match=r"the config folder .* has none of unet/config\.json"):
            use()


def test_a_given_tokenizer_with_more_tokens_than_embeddings_is_refused(tmp_path: Path) -> None:
    other = copied("sd15", tmp_path)
    Tokenizer.packaged().with_added_tokens(["<cat>"]).save(other / "tokenizer")
    with pytest.raises(ModelError, match="has 49409 tokens, but the text encoder knows 49408"):
        load_networks(shared("sd15")[1], config=other)


def test_a_folder_is_converted_with_the_configs_that_are_given(tmp_path: Path) -> None:
    other = copied("sd15", tmp_path)
    edit_json(other / "unet" / "config.json", attention_head_dim=4)
    convert(shared("sd15")[0], tmp_path / "new", config=other)
    assert json.loads((tmp_path / "new" / "unet" / "config.json").read_text())["attention_head_dim"] == 4


def test_many_names_of_one_storage_make_no_large_model(tmp_path: Path) -> None:
    """A file of 8 MB must not ask for 4 GB of disk: what repeats is left out, and what the model needs is there."""
    big = torch.randn(2_000_000)
    state: dict[str, Any] = load_file(shared("sd15")[1])
    torch.save({"state_dict": {**state, **{f"left{i}": big[:] for i in range(500)}}}, tmp_path / "model.ckpt")
    summary = convert(tmp_path / "model.ckpt", tmp_path / "new.safetensors")
    assert summary.bytes < 3 * (tmp_path / "model.ckpt").stat().st_size + 128_000_000
    assert "left499" in summary.dropped


def test_the_size_that_a_small_model_was_trained_at_travels(tmp_path: Path) -> None:
    folder = copied("sd15", tmp_path)
    edit_json(folder / "model_index.json", _native_size=32)
    convert(folder, tmp_path / "new.safetensors")
    convert(tmp_path / "new.safetensors", tmp_path / "new")
    sizes = [
        open_checkpoint(path).native_size
        for path in (folder, tmp_path / "new.safetensors", tmp_path / "new", shared("sd15")[0])
    ]
    assert sizes == [32, 32, 32, None]


@pytest.mark.parametrize("said", [2049, 65535, 0, -64, "64", True, None])
def test_a_size_that_no_small_model_was_trained_at_is_none(said: object, tmp_path: Path) -> None:
    """It decides how large a picture is worked on, whatever the picture's own size."""
    folder = copied("sd15", tmp_path)
    edit_json(folder / "model_index.json", _native_size=said)
    weights = {"a": torch.ones(1)}
    save_file(weights, tmp_path / "a", {"sdedit.native_size": json.dumps(said).strip('"')})
    assert open_checkpoint(folder).native_size is None
    told = notes.native_size(open_weights(tmp_path / "a").metadata)
    assert told == (64 if said == "64" else None)  # all metadata are texts


def test_names_for_the_same_weights_are_all_read(tmp_path: Path) -> None:
    """As trainers keep them; and a leftover that is too large beside them spoils none."""
    weights = torch.randn(3_000_000)
    state = {"mask": torch.zeros(1).expand(2**40), **{name: {"w": weights} for name in ("ema", "avg", "swa", "raw")}}
    torch.save(state, tmp_path / "model.pt")
    source = open_weights(tmp_path / "model.pt")
    assert all(torch.equal(source.get(f"{name}.w"), weights) for name in ("ema", "avg", "swa", "raw"))
