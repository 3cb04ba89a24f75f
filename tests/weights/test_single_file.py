"""Single files load as the oracle loads them: the same tensors, the same outputs, the same scheduler and tokenizer."""

from __future__ import annotations

import gc
import json
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny.configs import EDITED
from helpers.tiny.folders import save_folder
from helpers.tiny.single_files import ema_tensors, folder_tensors, ldm_tensors, save_single_file, shared
from safetensors.torch import save_file

from sdedit_cli.errors import ModelError
from sdedit_cli.names import ldm
from sdedit_cli.weights.load.networks import Loaded, load_networks
from sdedit_cli.weights.write.convert import convert

PARTS = ("unet", "vae", "text_encoder")


@pytest.fixture(params=list(EDITED))
def model(request: pytest.FixtureRequest) -> tuple[str, Path, Path]:
    """A family, its tiny model as the oracle's folder, and as a single file."""
    return request.param, *shared(request.param)


@pytest.fixture
def sd1() -> Path:
    return shared("sd15")[0]


def oracle_pipeline(path: Path, folder: Path) -> Any:
    from diffusers import StableDiffusionImg2ImgPipeline

    return StableDiffusionImg2ImgPipeline.from_single_file(str(path), config=str(folder), local_files_only=True)


def states(components: Any) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for part in PARTS:
        for name, tensor in getattr(components, part).state_dict().items():
            found[f"{part}.{name.removeprefix('text_model.')}"] = tensor
    return found


def outputs(components: Any) -> list[torch.Tensor]:
    """What each network makes of fixed inputs, called through ours and the oracle's differing signatures."""
    generator = torch.Generator().manual_seed(3)
    x, picture = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(1, 3, 16, 16, generator=generator)
    ids, t = torch.randint(0, 49408, (2, 77), generator=generator), torch.tensor([7, 800])
    with torch.no_grad():
        text = components.text_encoder(ids).last_hidden_state
        if isinstance(components, Loaded):
            unet, vae = components.unet, components.vae
            assert unet is not None
            emb = unet.embed_time(t, dtype=torch.float32)
            return [text, unet(x, emb, unet.context(text)), vae.encode(picture).mean, vae.decode(x)]
        out = components.unet(x, t, encoder_hidden_states=text).sample
        vae = components.vae
        return [text, out, vae.encode(picture).latent_dist.mean, vae.decode(x).sample]


def test_same_tensors_and_outputs_as_the_oracle(model: tuple[str, Path, Path]) -> None:
    _, folder, path = model
    ours, oracle = load_networks(path), oracle_pipeline(path, folder)
    expected = states(oracle)
    found = states(ours)
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []
    for mine, theirs in zip(outputs(ours), outputs(oracle), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=0)


def test_same_modules_as_the_folder_that_the_file_was_made_of(model: tuple[str, Path, Path]) -> None:
    _, folder, path = model
    single, whole = load_networks(path), load_networks(folder)
    expected = states(whole)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in states(single).items())
    for mine, theirs in zip(outputs(single), outputs(whole), strict=True):
        assert torch.equal(mine, theirs)
    assert single.tokenizer is not None
    assert whole.tokenizer is not None
    prompt = "a cat! in a hat, wow!!"
    assert single.tokenizer.encode(prompt) == whole.tokenizer.encode(prompt)
    saved = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    assert single.scheduler_config is not None
    assert {key: saved[key] for key in single.scheduler_config if key in saved} == {
        key: value for key, value in single.scheduler_config.items() if key in saved
    }


def test_parameters_are_the_mapped_file(sd1: Path, tmp_path: Path) -> None:
    """No second copy in memory: renamed tensors still lie in the file's mapping."""

    from sdedit_cli.weights.checkpoint.from_file import read_file
    from sdedit_cli.weights.formats.mapped_file import mapped_file_of
    from sdedit_cli.weights.formats.open import open_weights

    path = save_single_file(tmp_path / "model.safetensors", sd1, "sd15")
    source = open_weights(path)
    for component in read_file(source).components.values():
        renamed = component.tensors
        assert all(mapped_file_of(renamed.get(name)) is not None for name in renamed.names())


def test_nothing_is_fetched(model: tuple[str, Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a local file needs no network")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    assert load_networks(model[2]).unet is not None


def test_a_path_without_its_extension(model: tuple[str, Path, Path], tmp_path: Path) -> None:
    assert load_networks(model[2].with_suffix("")).path == model[2]
    with pytest.raises(ModelError, match="no such file"):
        load_networks(tmp_path / "nothing")


def test_the_ema_copy_replaces_the_unet_only_where_asked(sd1: Path, tmp_path: Path) -> None:
    tensors = ldm_tensors(sd1, "sd15")
    path = tmp_path / "model.safetensors"
    save_file(tensors | ema_tensors(tensors), path)
    plain, averaged = load_networks(path), load_networks(path, ema=True)
    assert torch.equal(states(plain)["unet.conv_in.weight"], tensors[ldm.UNET + "input_blocks.0.0.weight"])
    for name, tensor in states(averaged).items():
        factor = 0.5 if name.startswith("unet.") else 1.0
        assert torch.equal(tensor, states(plain)[name] * factor), name


def test_prediction_type_reaches_the_scheduler(model: tuple[str, Path, Path]) -> None:
    for kind in ("epsilon", "v_prediction"):
        config = load_networks(model[2], prediction_type=kind).scheduler_config
        assert config is not None
        assert config["prediction_type"] == kind


def test_a_vae_alone(sd1: Path, tmp_path: Path) -> None:
    vae = folder_tensors(sd1, "vae")
    inside = {name: t for name, t in ldm_tensors(sd1, "sd15").items() if name.startswith(ldm.VAE)}
    files = {"ours": vae, "ldm": inside, "bare": {n.removeprefix(ldm.VAE): t for n, t in inside.items()}}
    for name, tensors in files.items():
        save_file(tensors, tmp_path / f"{name}.safetensors")
        found = load_networks(tmp_path / f"{name}.safetensors")
        assert found.unet is None
        assert found.scheduler_config is None
        assert found.vae is not None
        assert all(torch.equal(t, vae[n]) for n, t in found.vae.state_dict().items())


def test_a_text_encoder_under_both_its_names_is_the_one_under_the_whole_ones(sd1: Path, tmp_path: Path) -> None:
    """As merges of merges have it: the older names are left over, and the oracle passes them over."""
    tensors = ldm_tensors(sd1, "sd15")
    left = {name.replace("text_model.", ""): t + 1 for name, t in tensors.items() if "text_model." in name}
    save_file(tensors | left, tmp_path / "both.safetensors")
    path = tmp_path / "both.safetensors"
    found, expected = states(load_networks(path)), states(oracle_pipeline(path, sd1))
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())
    assert left.keys() <= set(convert(path, tmp_path / "folder").dropped)


def test_unusual_models_need_and_use_a_config_folder(tmp_path: Path) -> None:
    """Heads that shapes cannot tell come from the folder, as in the oracle."""
    folder = save_folder(tmp_path / "folder", "sd15", attention_head_dim=2)
    path = save_single_file(tmp_path / "model.safetensors", folder, "sd15")
    plain, told, oracle = load_networks(path), load_networks(path, config=folder), oracle_pipeline(path, folder)
    expected = outputs(oracle)[1]
    torch.testing.assert_close(outputs(told)[1], expected, atol=1e-5, rtol=0)
    assert not torch.allclose(outputs(plain)[1], expected, atol=1e-4, rtol=0)


def test_what_shapes_leave_open_is_asked_for(tmp_path: Path) -> None:
    folder = save_folder(tmp_path / "folder", "sd15", block_out_channels=(24, 48), norm_num_groups=8)
    path = save_single_file(tmp_path / "model.safetensors", folder, "sd15")
    with pytest.raises(ModelError, match=r"norm_num_groups(.|\n)*--config FOLDER"):
        load_networks(path)
    assert load_networks(path, config=folder).unet is not None


def test_unknown_and_missing_tensors_are_errors_unless_partial(sd1: Path, tmp_path: Path) -> None:
    path = save_single_file(
        tmp_path / "more.safetensors", sd1, "sd15", **{ldm.UNET + "input_blocks.1.0.surprise": torch.ones(3)}
    )
    with pytest.raises(ModelError, match=r"surprise(.|\n)*--partial"):
        load_networks(path)
    assert load_networks(path, partial=True).report.unused == ("unet." + ldm.UNET + "input_blocks.1.0.surprise",)
    tensors = ldm_tensors(sd1, "sd15")
    del tensors[ldm.UNET + "middle_block.1.norm.weight"]
    save_file(tensors, tmp_path / "fewer.safetensors")
    with pytest.raises(ModelError, match=r"mid_block\.attentions\.0\.norm\.weight"):
        load_networks(tmp_path / "fewer.safetensors")


@pytest.mark.parametrize("tag", ["F8_E8M0", "F8_E4M3FNUZ"])
def test_a_dtype_that_no_weights_have_matters_where_it_is_needed_alone(tag: str, sd1: Path, tmp_path: Path) -> None:
    tensors, needed = ldm_tensors(sd1, "sd15"), ldm.UNET + "out.0.bias"
    left, used = tmp_path / "left.safetensors", tmp_path / "used.safetensors"
    save_file(tensors | {"leftover": torch.zeros(3, dtype=torch.uint8)}, left)
    save_file(tensors | {needed: torch.zeros_like(tensors[needed], dtype=torch.uint8)}, used)
    for path in (left, used):
        length = int.from_bytes(path.read_bytes()[:8], "little")
        header = path.read_bytes()[8 : 8 + length].replace(b'"U8"', f'"{tag}"'.encode())
        path.write_bytes(len(header).to_bytes(8, "little") + header + path.read_bytes()[8 + length :])
    assert load_networks(left).unet is not None
    assert "leftover" in convert(left, tmp_path / "new.safetensors").dropped
    for refused in (lambda: load_networks(used), lambda: convert(used, tmp_path / "none")):
        with pytest.raises(ModelError, match=rf"the tensor '{needed}' is of the dtype {tag}"):
            refused()


def test_models_that_cannot_be_run_say_what_they_are(tmp_path: Path) -> None:
    folder = save_folder(tmp_path / "folder", "sd15", in_channels=9)
    path = save_single_file(tmp_path / "model.safetensors", folder, "sd15")
    with pytest.raises(ModelError, match="is a model for inpainting"):
        load_networks(path)


def test_the_collector_of_cycles_rests_only_while_a_model_loads(tmp_path: Path) -> None:
    """After a load, and after one that failed, it is as the program left it."""
    for enabled in (True, False):
        (gc.enable if enabled else gc.disable)()
        try:
            with pytest.raises(ModelError):
                load_networks(tmp_path / "missing")
            assert gc.isenabled() == enabled
        finally:
            gc.enable()
