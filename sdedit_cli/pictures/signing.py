"""Content credentials: a picture signed by C2PA, with an action that names the edit, through c2pa-python (an extra)."""

from __future__ import annotations

import base64
import io
import json
import re
import threading
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import InputError, OutputError, UsageError
from .parameters import parameters
from .record import Record
from .xmp import DIGITAL_SOURCE_TYPE

EXTRA = "pip install 'sdedit-cli[c2pa]'"
_MOST_BYTES = 1 << 20
_PEM = re.compile(rb"-----BEGIN ([A-Z ]+)-----(.*?)-----END \1-----", re.S)
# What a private key says of its kind (object identifiers in DER), and the algorithm of COSE for it.
_ALGORITHMS = {
    bytes.fromhex("06082a8648ce3d030107"): b"es256",
    bytes.fromhex("06052b81040022"): b"es384",
    bytes.fromhex("06052b81040023"): b"es512",
    bytes.fromhex("06092a864886f70d010101"): b"ps256",
    bytes.fromhex("06032b6570"): b"ed25519",
}
_INPUT = "input"


class Signer:
    """Signs with a chain of certificates and a private key, both PEM.

    Raises UsageError where c2pa-python is not installed, InputError for files that cannot be used.
    """

    def __init__(self, chain: str, key: str) -> None:
        try:
            import c2pa  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise UsageError(f"--c2pa needs c2pa-python, which is not installed; {EXTRA} adds it") from None
        self._c2pa: Any = c2pa
        certificates, secret = _read(chain, "CERTIFICATE"), _read(key, "PRIVATE KEY")
        info = self._c2pa.C2paSignerInfo(_algorithm(secret, key), certificates, secret, None)
        try:
            self._signer = self._c2pa.Signer.from_info(info)
        except self._c2pa.C2paError as problem:
            raise InputError(f"{chain} and {key}: cannot sign ({problem})") from None
        self._chain = chain
        self._alone = threading.Lock()

    def signed(self, data: bytes, format: str, record: Record | None, version: str) -> bytes:
        """A finished file with its manifest, which names the edit where there is a record. Raises OutputError."""
        mime, out = f"image/{format}", io.BytesIO()
        settings = self._c2pa.Settings.from_dict({"builder": {"thumbnail": {"enabled": False}}})
        try:
            context = self._c2pa.Context(settings=settings)
            manifest = json.dumps(_manifest(mime, record, version))
            with self._alone, self._c2pa.Builder(manifest, context) as builder:
                builder.sign(self._signer, mime, io.BytesIO(data), out)
        except self._c2pa.C2paError as problem:
            raise OutputError(f"{self._chain}: the picture cannot be signed ({problem}); nothing was written") from None
        return out.getvalue()


signer = cache(Signer)
"""The signer of a chain and a key: each is opened once, before the model is loaded."""


def _read(path: str, kind: str) -> bytes:
    """The bytes of a PEM file that has such a block. Raises InputError."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(_MOST_BYTES)
    except OSError as problem:
        raise InputError(f"{path}: cannot be read ({problem.strerror})") from None
    kinds = [found[1].decode() for found in _PEM.finditer(data)]
    if any("ENCRYPTED" in one for one in kinds):
        raise InputError(f"{path}: the key is encrypted; expected one without a password (openssl pkey -in {path})")
    if not any(one.endswith(kind) for one in kinds):
        raise InputError(f"{path}: holds no {kind.lower()}; expected a PEM file with '-----BEGIN {kind}-----'")
    return data


def _algorithm(secret: bytes, path: str) -> bytes:
    for found in _PEM.finditer(secret):
        try:
            der = base64.b64decode(b"".join(found[2].split()))
        except ValueError:
            continue
        for mark, algorithm in _ALGORITHMS.items():
            if found[1].endswith(b"PRIVATE KEY") and mark in der:
                return algorithm
    raise InputError(
        f"{path}: a key of an unknown kind; expected PKCS#8 of P-256, P-384, P-521, RSA or Ed25519 "
        f"(openssl pkcs8 -topk8 -nodes -in {path})"
    )


def _manifest(mime: str, record: Record | None, version: str) -> dict[str, Any]:
    agent = {"name": "sdedit", "version": version}
    edited: dict[str, Any] = {
        "action": "c2pa.edited",
        "softwareAgent": agent,
        "digitalSourceType": DIGITAL_SOURCE_TYPE,
        "description": parameters(record) if record else "Edited with a diffusion model.",
    }
    opened = {"action": "c2pa.opened", "parameters": {"ingredientIds": [_INPUT]}}
    ingredient = {"title": _INPUT, "label": _INPUT, "format": "image/*", "relationship": "parentOf"}
    ingredient |= {"instance_id": f"sha256:{record.input_hash}"} if record else {}
    return {
        "claim_generator_info": [agent],
        "format": mime,
        "ingredients": [ingredient],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [opened, edited]}}],
    }
