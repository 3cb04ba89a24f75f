"""Pictures are signed by C2PA on request: the whole file before it is written, with an action that names the edit."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import QUICK, one_line, photo
from PIL import Image, features

from sdedit_cli.cli.main import run
from sdedit_cli.errors import InputError, UsageError
from sdedit_cli.options import Edit
from sdedit_cli.pictures.carriers import find
from sdedit_cli.pictures.encode import encode
from sdedit_cli.pictures.record import Record
from sdedit_cli.pictures.signing import Signer
from sdedit_cli.pictures.xmp import DIGITAL_SOURCE_TYPE

try:
    import c2pa
except ImportError:
    c2pa = None
signs = pytest.mark.skipif(
    c2pa is None or shutil.which("openssl") is None, reason="c2pa-python or openssl is not installed"
)
LEAF = """basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=emailProtection
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
"""
KINDS = {
    "P-256": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "P-384": ["ec", "-pkeyopt", "ec_paramgen_curve:P-384"],
    "RSA": ["rsa:2048"],
    "Ed25519": ["ed25519"],
}


def openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


def chain(folder: Path, kind: str = "P-256") -> tuple[str, str]:
    """A chain of certificates and the key of its first, of nobody."""
    new = ["-nodes", "-newkey", *KINDS[kind]]
    root = ["-subj", "/CN=Test CA/O=T", "-addext", "basicConstraints=critical,CA:TRUE"]
    openssl(folder, "req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", *root, "-days", "999")
    openssl(folder, "req", *new, "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/CN=Signer/O=T")
    (folder / "ext").write_text(LEAF)
    signed = ["-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "99"]
    openssl(folder, "x509", "-req", *signed, "-out", "leaf.pem", "-extfile", "ext")
    (folder / "chain.pem").write_bytes((folder / "leaf.pem").read_bytes() + (folder / "ca.pem").read_bytes())
    return str(folder / "chain.pem"), str(folder / "leaf.key")


def manifest(data: bytes, format: str) -> dict[str, Any]:
    """The manifest of a file, which must be sound but for its signer, whom nobody knows."""
    assert c2pa is not None
    found = json.loads(c2pa.Reader(f"image/{format}", io.BytesIO(data)).json())
    assert found["validation_state"] == "Valid"
    assert [one["code"] for one in found["validation_status"]] == ["signingCredential.untrusted"]
    return found["manifests"][found["active_manifest"]]


def edited_action(found: dict[str, Any]) -> dict[str, Any]:
    (actions,) = (one["data"]["actions"] for one in found["assertions"] if one["label"].startswith("c2pa.actions"))
    assert [one["action"] for one in actions] == ["c2pa.opened", "c2pa.edited"]
    return actions[1]


@signs
@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "avif"])
def test_every_format_is_signed_as_it_is(folder: Path, format: str) -> None:
    if format == "avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    data = encode(Image.open(photo(folder / "a.png")), None, None, format)
    record = Record(Edit(prompt="a cat, at noon", seed=5).saved(), 64, 48, input_hash="cd" * 32)
    signed = Signer(*chain(folder)).signed(data, format, record, "1")
    found = edited_action(manifest(signed, format))
    assert found["digitalSourceType"] == DIGITAL_SOURCE_TYPE
    assert found["softwareAgent"]["name"] == "sdedit"
    assert found["description"].startswith("a cat, at noon\nSteps: 50")
    with Image.open(io.BytesIO(signed)) as after, Image.open(io.BytesIO(data)) as before:
        assert after.tobytes() == before.tobytes()


@signs
@pytest.mark.parametrize("kind", KINDS)
def test_keys_of_every_kind_sign(folder: Path, kind: str) -> None:
    data = encode(Image.open(photo(folder / "a.png")), None, None, "png")
    manifest(Signer(*chain(folder, kind)).signed(data, "png", None, "1"), "png")


@signs
def test_the_command_line_signs_what_it_writes_and_an_edit_of_it_is_not_signed(folder: Path) -> None:
    photo(folder / "a.png")
    files = chain(folder)
    words = ["-p", "a cat", "-q", *QUICK]
    assert run(["run", "a.png", *words, "-o", "x.png", "--c2pa", files[0], "--c2pa-key", files[1]]) == 0
    data = Path("x.png").read_bytes()
    assert edited_action(manifest(data, "png"))["description"].startswith("a cat\nSteps: 2")
    assert find("x.png").exact
    assert run(["run", "x.png", *words, "-o", "y.png"]) == 0
    assert b"c2pa" not in Path("y.png").read_bytes()


@signs
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda cert, key: cert.unlink(), "cannot be read"),
        (lambda cert, key: cert.write_text("hello"), "holds no certificate"),
        (lambda cert, key: key.write_text("hello"), "holds no private key"),
        (lambda cert, key: key.write_text(key.read_text().replace("PRIVATE", "ENCRYPTED PRIVATE")), "is encrypted"),
        (lambda cert, key: key.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), "unknown"),
        (lambda cert, key: cert.write_bytes((cert.parent / "ca.pem").read_bytes()), "cannot"),
    ],
)
def test_files_that_cannot_sign_are_refused_in_words(folder: Path, spoil: Any, words: str) -> None:
    files = chain(folder)
    spoil(*map(Path, files))
    data = encode(Image.open(photo(folder / "a.png")), None, None, "png")
    with pytest.raises(InputError, match=words):
        Signer(*files).signed(data, "png", None, "1")


def test_without_the_extra_one_line_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "c2pa", None)
    photo(folder / "a.png")
    assert run(["run", "a.png", "-p", "a cat", *QUICK, "--c2pa", "c.pem", "--c2pa-key", "k.pem"]) == 2
    assert "pip install 'sdedit-cli[c2pa]'" in one_line(capfd.readouterr().err)
    assert not Path("a.edited.png").exists()


def test_a_chain_and_its_key_go_together() -> None:
    with pytest.raises(UsageError, match="c2pa and c2pa-key go together"):
        Edit(c2pa="chain.pem")
