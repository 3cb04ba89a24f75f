"""Paths, Hub ids and file URLs, against a local server that plays the Hub."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from helpers.hub import TOKEN, Hub, commit, running

from sdedit_cli.errors import ModelError
from sdedit_cli.weights.hub import resolve, wanted_files

MODEL = {
    "model_index.json": b"{}",
    "README.md": b"read me",
    "v1-5-pruned.ckpt": b"a single file",
    "unet/config.json": b'{"of": "unet"}',
    "unet/diffusion_pytorch_model.safetensors": b"plain",
    "unet/diffusion_pytorch_model.fp16.safetensors": b"half",
    "unet/diffusion_pytorch_model.bin": b"pickle",
    "unet/diffusion_flax_model.msgpack": b"flax",
    "vae/config.json": b'{"of": "vae"}',
    "vae/diffusion_pytorch_model.safetensors.index.json": b'{"weight_map": {}}',
    "vae/diffusion_pytorch_model-00001-of-00002.safetensors": b"1",
    "vae/diffusion_pytorch_model-00002-of-00002.safetensors": b"2",
    "tokenizer/merges.txt": b"m",
}
PLAIN = {
    "model_index.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors.index.json",
    "vae/diffusion_pytorch_model-00001-of-00002.safetensors",
    "vae/diffusion_pytorch_model-00002-of-00002.safetensors",
    "tokenizer/merges.txt",
}
BIG = bytes(range(256)) * 4096


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Generator[Hub, None, None]:
    with running() as server:
        server.repos["o/model"] = {"main": dict(MODEL), "old": {"model_index.json": b"old"}}
        server.repos["o/files"] = {"main": {"lora.safetensors": BIG, "sub/x.bin": b"x"}}
        server.repos["o/secret"] = {"main": {"w.safetensors": b"s"}}
        server.private.add("o/secret")
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        # Read once, when the library is imported; a machine that runs tests may well be set to be offline.
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        yield server


@pytest.fixture
def fetch(hub: Hub, tmp_path: Path) -> Any:
    return lambda source, **options: resolve(source, **{"cache_dir": tmp_path / "cache", **options})


def test_a_path_that_exists_wins_and_asks_nobody(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "o" / "model" / "unet").mkdir(parents=True)
    (tmp_path / "o" / "model" / "w.safetensors").write_bytes(b"")
    assert resolve("o/model") == Path("o/model")
    assert resolve("o/model", subfolder="unet") == Path("o/model/unet")
    assert resolve("o/model", weight_name="w.safetensors") == Path("o/model/w.safetensors")
    assert resolve(tmp_path / "o" / "model" / "w.safetensors", subfolder="unet").name == "w.safetensors"
    with pytest.raises(ModelError, match="no such file or folder in"):
        resolve("o/model", subfolder="gone")
    assert hub.log == []


def test_a_hub_id_fetches_one_set_of_weights(hub: Hub, fetch: Any) -> None:
    folder = fetch("o/model")
    assert set(hub.fetched()) == PLAIN
    assert (folder / "unet" / "diffusion_pytorch_model.safetensors").read_bytes() == b"plain"
    hub.log.clear()
    assert fetch("o/model", local_files_only=True) == folder
    assert hub.log == []


def test_variants_kinds_and_subfolders(hub: Hub, fetch: Any) -> None:
    assert (fetch("o/model", variant="fp16") / "unet" / "diffusion_pytorch_model.fp16.safetensors").exists()
    assert "unet/diffusion_pytorch_model.safetensors" not in hub.fetched()
    hub.log.clear()
    assert (fetch("o/model", subfolder="unet", use_safetensors=False) / "diffusion_pytorch_model.bin").exists()
    assert {name.split("/")[0] for name in hub.fetched()} == {"unet"}
    assert fetch("o/model", subfolder="unet", local_files_only=True).name == "unet"


def test_revisions(fetch: Any) -> None:
    assert (fetch("o/model", revision="old") / "model_index.json").read_bytes() == b"old"
    assert fetch("o/model", revision=commit("o/model", "old")).name == commit("o/model", "old")
    with pytest.raises(ModelError, match="has no revision 'new'"):
        fetch("o/model", revision="new")


def test_files_by_name_and_by_url(hub: Hub, fetch: Any) -> None:
    assert fetch("o/files", weight_name="lora.safetensors").read_bytes() == BIG
    for part in ("blob", "resolve"):
        assert fetch(f"{hub.url}/o/files/{part}/main/sub/x.bin").read_bytes() == b"x"
    assert fetch("o/files", subfolder="sub", weight_name="x.bin").read_bytes() == b"x"
    with pytest.raises(ModelError, match="no such file in revision 'main'"):
        fetch("o/files", weight_name="gone.safetensors")
    for url in ("https://example.org/o/files/resolve/main/x", f"{hub.url}/o/files"):
        with pytest.raises(ModelError, match="not the URL of a file on the Hub"):
            fetch(url)


def test_private_models_need_the_token(fetch: Any) -> None:
    with pytest.raises(ModelError, match="hf auth login"):
        fetch("o/secret", weight_name="w.safetensors", token=False)
    assert fetch("o/secret", weight_name="w.safetensors", token=TOKEN).read_bytes() == b"s"


def test_force_download_fetches_again(hub: Hub, fetch: Any) -> None:
    fetch("o/files", weight_name="sub/x.bin")
    fetch("o/files", weight_name="sub/x.bin")
    assert hub.fetched() == ["sub/x.bin"]
    fetch("o/files", weight_name="sub/x.bin", force_download=True)
    assert hub.fetched() == ["sub/x.bin"] * 2


@pytest.mark.filterwarnings("ignore::UserWarning")  # the library tells of the retry
def test_a_broken_transfer_goes_on_where_it_stopped(hub: Hub, fetch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1 << 16)
    hub.break_after["lora.safetensors"] = len(BIG) // 2
    assert fetch("o/files", weight_name="lora.safetensors").read_bytes() == BIG
    ranges = [asked for method, path, asked in hub.log if method == "GET" and path.endswith("lora.safetensors")]
    assert ranges == ["", f"bytes={len(BIG) // 2}-"]


def test_offline_says_how_to_allow_the_network(hub: Hub, fetch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for source, options in (("o/model", {}), ("o/files", {"weight_name": "lora.safetensors"})):
        with pytest.raises(ModelError, match="--download"):
            fetch(source, local_files_only=True, **options)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="--download"):
        fetch("o/model")
    assert hub.log == []


@pytest.mark.parametrize(
    "source", ["gone.safetensors", "./a/b", "/no/such/path", "a/b/c", "name", "o/model.safetensors", ""]
)
def test_what_is_no_id_is_a_missing_path(source: str, hub: Hub, fetch: Any) -> None:
    if source:
        with pytest.raises(ModelError, match="no such file or folder"):
            fetch(source)
    assert hub.log == []


def test_unknown_models_and_empty_ones(hub: Hub, fetch: Any) -> None:
    with pytest.raises(ModelError, match="no such model on the Hub"):
        fetch("o/gone")
    hub.repos["o/empty"] = {"main": {"README.md": b""}}
    with pytest.raises(ModelError, match="holds no model"):
        fetch("o/empty")


def test_proxies_are_used(hub: Hub, fetch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy here is the server itself: a request for another host arrives there."""
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert fetch("o/files", weight_name="sub/x.bin", proxies={"http": hub.url}).read_bytes() == b"x"


def test_retired_options_warn(hub: Hub, tmp_path: Path) -> None:
    for option in ({"mirror": "tuna"}, {"resume_download": True}):
        with pytest.warns(FutureWarning, match="does nothing"):
            resolve(tmp_path, **option)


def test_wanted_files_follow_the_folder_reader() -> None:
    assert set(wanted_files(list(MODEL), None, None)) == PLAIN
    halves = [
        "diffusion_pytorch_model.fp16-00001-of-00001.safetensors",
        "diffusion_pytorch_model.safetensors.index.fp16.json",
    ]
    assert set(wanted_files([*halves, "config.json"], None, None)) == {*halves, "config.json"}
