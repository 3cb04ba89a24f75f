"""open_weights looks at what a file is, whatever it is called, and says so when it holds no weights."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from helpers.weights import write
from PIL import Image
from safetensors.torch import save_file

from sdedit_cli.errors import ModelError
from sdedit_cli.weights import open_weights
from sdedit_cli.weights.load.networks import load_networks

TENSORS = {"a": torch.arange(3.0)}


def test_names_do_not_matter(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model.ckpt")
    torch.save(TENSORS, tmp_path / "model.safetensors")
    torch.save(TENSORS, tmp_path / "model.json", _use_new_zipfile_serialization=False)
    for path in sorted(tmp_path.iterdir()):
        assert open_weights(path).get("a").tolist() == [0, 1, 2]


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_every_protocol_are_known_by_their_beginning(protocol: int, tmp_path: Path) -> None:
    for root in ({"a": TENSORS["a"].numpy()}, OrderedDict(a=TENSORS["a"].numpy())):
        path = write(tmp_path / "f", pickle.dumps(root, protocol=protocol))
        assert open_weights(path).names() == ["a"]


@pytest.mark.parametrize("protocol", range(1, 6))  # what it writes in protocol 0, torch itself cannot read
def test_files_of_torch_before_zip_are_known_whatever_their_protocol(protocol: int, tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "f", pickle_protocol=protocol, _use_new_zipfile_serialization=False)
    assert open_weights(tmp_path / "f").get("a").tolist() == [0, 1, 2]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f")
    with pytest.raises(ModelError, match="is a pipe or a device"):
        open_weights(tmp_path / "f")
    with pytest.raises(ModelError, match="is a pipe or a device"):
        load_networks(tmp_path / "f")


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
OTHER_THINGS = {
    "git-lfs pointer": (LFS, "git lfs pull"),
    "web page": (b"\n <!DOCTYPE html><html><body>Sign in</body></html>", "web page"),
    "xml": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "web page"),
    "OpenVINO": (b'<?xml version="1.0"?>\r\n<net name="Model0" version="11">\n\t<layers>', "OpenVINO"),
    "OpenVINO without the first line": (b'<net name="Model0" version="11">', "OpenVINO"),
    "text": ("Grüße\nfrom a README\n".encode() * 100, "text file"),
    "json": (b'{"_class_name": "UNet2DConditionModel"}', "JSON file"),
    "broken json": (b'{"weight_map": ', "JSON file"),
    "gzip": (b"\x1f\x8b\x08\0\0\0\0\0\0", "compressed archive"),
    "GGUF": (b"GGUF\x03\0\0\0\0\0\0\0", "GGUF"),
    "empty": (b"", "is empty"),
    "one byte": (b"\x80", "not a usable"),
    "noise": (bytes(range(128, 256)) * 8, "not a usable"),
}


@pytest.mark.parametrize("case", OTHER_THINGS)
def test_other_things_are_called_what_they_are(case: str, tmp_path: Path) -> None:
    content, problem = OTHER_THINGS[case]
    path = write(tmp_path / "model.safetensors", content)
    with pytest.raises(ModelError) as error:
        open_weights(path)
    assert problem in str(error.value)
    assert str(path) in str(error.value)


def test_pictures_folders_and_missing_files(tmp_path: Path) -> None:
    for suffix in ("png", "jpeg", "gif", "webp", "bmp"):
        Image.new("RGB", (4, 4)).save(tmp_path / f"p.{suffix}")
        with pytest.raises(ModelError, match="is a picture"):
            open_weights(tmp_path / f"p.{suffix}")
    with pytest.raises(ModelError, match="is a folder"):
        open_weights(tmp_path)
    with pytest.raises(ModelError, match="no such file"):
        open_weights(tmp_path / "gone")
