"""What a picture says of the edit that made it, written and read.

Two texts travel with a picture: `parameters`, in the format that web UIs and gallery tools read (prompt, negative
prompt, one line of `Key: value` pairs), and one exact JSON block from which an edit is replayed. PNG holds both as
text chunks; JPEG and WebP hold them as the EXIF tags UserComment and MakerNote. There are no times and no paths in
them, so equal edits give equal bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..errors import PictureError, UsageError
from ..options import CURVES, Edit, Field, Layer, fields, layer_of

if TYPE_CHECKING:
    from PIL import Image

SCHEMA = "sdedit.edit/1"
TEXT_KEY = "sdedit"
BUILT_IN = "built-in"

_EXIF_FOLDER = 0x8769
_USER_COMMENT = 0x9286
_MAKER_NOTE = 0x927C
_SOFTWARE = 0x0131
_UTF16 = b"UNICODE\0"
_MAKER = b"sdedit\0"
# APP1 of JPEG holds 65,533 bytes; what is left over covers the tags around the two texts.
_EXIF_ROOM = 65_000


@dataclass(frozen=True, slots=True)
class Record:
    """The facts written into a picture. `edit` is `Edit.saved()` with the seed that was used.

    `sampler` and `curve` name what ran, also where the edit left the choice to the model. `model` and `vae` are names,
    never paths ('' for the model's own autoencoder); hashes are SHA-256 in hex, or '' when not known.
    """

    edit: Mapping[str, Any]
    width: int
    height: int
    model: str = ""
    model_hash: str = ""
    vae: str = ""
    vae_hash: str = ""
    input_hash: str = ""
    sampler: str = ""
    curve: str = ""
    version: str = ""

    def block(self) -> str:
        """The exact block: ASCII JSON on one line, keys sorted."""
        facts = {
            "schema": SCHEMA,
            "version": self.version,
            "edit": dict(self.edit),
            "model": {"name": self.model, "sha256": self.model_hash},
            "vae": {"name": self.vae, "sha256": self.vae_hash},
            "input": {"sha256": self.input_hash, "width": self.width, "height": self.height},
            "sampler": {"name": self.sampler, "curve": self.curve},
        }
        return json.dumps(facts, sort_keys=True, separators=(",", ":"))

    def parameters(self) -> str:
        """The text that web UIs write and read."""
        edit = Edit(**self.edit)
        pairs = {
            "Steps": str(edit.steps_total()),
            "Sampler": self.sampler,
            "Schedule type": self.curve.replace("_", " ").capitalize(),
            "CFG scale": f"{edit.cfg_scale:.15g}",
            "Seed": str(edit.seed),
            "Size": f"{self.width}x{self.height}",
            "Model hash": self.model_hash[:10],
            "Model": self.model,
            "VAE hash": self.vae_hash[:10],
            "VAE": self.vae,
            "Denoising strength": f"{edit.strength:.15g}",
            "Clip skip": str(edit.clip_skip + 1) if edit.clip_skip else "",
            "Eta": f"{edit.eta:.15g}" if edit.eta else "",
            "Init image hash": self.input_hash[:10],
            "Version": f"sdedit {self.version}".strip(),
        }
        last = ", ".join(f"{key}: {_quoted(value)}" for key, value in pairs.items() if value)
        negative = [f"Negative prompt: {edit.negative_prompt}"] if edit.negative_prompt else []
        text = "\n".join([edit.prompt, *negative, last]).replace("\0", "")
        return text.encode("utf-8", "replace").decode()  # names of files can hold bytes that are no text


@dataclass(frozen=True, slots=True)
class Found:
    """What a picture was found to say: the layer of its edit, and what it was made of.

    `exact` tells our own block from a text of another tool; `ignored` lists what could not be used of the latter.
    """

    layer: Layer
    model: str = ""
    model_hash: str = ""
    input_hash: str = ""
    vae: str = ""
    vae_hash: str = ""
    exact: bool = False
    ignored: tuple[str, ...] = ()


def save_arguments(record: Record, format: str) -> dict[str, Any]:
    """The keyword arguments of PIL's `Image.save` that write `record` into a 'png', 'jpeg' or 'webp'."""
    if format == "png":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_text("parameters", record.parameters())
        info.add_text(TEXT_KEY, record.block())
        return {"pnginfo": info}
    from PIL.Image import Exif

    exif = Exif()
    # Readers of UserComment take its UTF-16 in the byte order of the block around it, or as big-endian: be both.
    exif.endian = ">"
    exif[_SOFTWARE] = f"sdedit {record.version}".strip()
    folder = exif.get_ifd(_EXIF_FOLDER)
    block = _MAKER + record.block().encode()
    comment = _UTF16 + record.parameters().encode("utf-16-be")
    room = _EXIF_ROOM
    for tag, value in ((_MAKER_NOTE, block), (_USER_COMMENT, comment)):
        if len(value) <= room:
            folder[tag] = value
            room -= len(value)
    return {"exif": exif.tobytes()}


def texts(image: Image.Image) -> dict[str, str]:
    """The texts of an opened picture: 'sdedit' (the block) and 'parameters', as far as it has them."""
    found = {key: value for key in (TEXT_KEY, "parameters") if isinstance(value := image.info.get(key), str)}
    folder: dict[int, Any] = dict(image.getexif().get_ifd(_EXIF_FOLDER))
    block, comment = folder.get(_MAKER_NOTE), folder.get(_USER_COMMENT)
    if isinstance(block, bytes) and block.startswith(_MAKER):
        found.setdefault(TEXT_KEY, block.removeprefix(_MAKER).decode("ascii", "replace"))
    if isinstance(comment, (bytes, str)) and comment:
        found.setdefault("parameters", _comment_text(comment))
    return found


def _comment_text(comment: bytes | str) -> str:
    if isinstance(comment, str):
        return comment
    code, body = comment[:8], comment[8:]
    if code != _UTF16:
        return (body if code.rstrip(b"\0 ") in (b"ASCII", b"") else comment).decode("utf-8", "replace").strip("\0")
    # The standard leaves the byte order open. The wrong one turns Latin text into rare ideographs.
    guesses = [body.decode(order, "replace") for order in ("utf-16-be", "utf-16-le")]
    return max(guesses, key=lambda text: sum(char.isascii() for char in text)).lstrip("\ufeff")


def find(path: str | Path) -> Found:
    """What the picture at `path` says of its edit. Raises PictureError when it says nothing of use."""
    from PIL import Image

    try:
        image = Image.open(path)
        with image:
            held = texts(image)
    except FileNotFoundError:
        raise PictureError(f"{path}: no such file") from None
    except Exception as problem:  # damaged files raise whatever the decoder stumbles over
        raise PictureError(f"{path}: cannot be read as a picture ({problem})") from None
    if TEXT_KEY in held:
        return parse_block(held[TEXT_KEY], str(path))
    if "parameters" in held:
        found = parse_parameters(held["parameters"], str(path))
        if found is not None:
            return found
    raise PictureError(f"{path}: holds no settings of an edit; pictures written by sdedit or by a web UI do")


def parse_block(text: str, source: str) -> Found:
    """What an exact block says. Raises PictureError when it is damaged or of a schema we do not know."""
    try:
        loaded: Any = json.loads(text)
        schema, edit = loaded["schema"], loaded["edit"]
        model: dict[str, Any] = loaded["model"]
        vae: dict[str, Any] = loaded["vae"]
        facts = [model["name"], model["sha256"], loaded["input"]["sha256"], vae["name"], vae["sha256"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise PictureError(f"{source}: its sdedit block is damaged") from None
    if schema != SCHEMA:
        raise PictureError(f"{source}: its settings are of the schema '{schema}', and this version reads {SCHEMA}")
    if not isinstance(edit, dict) or not all(isinstance(fact, str) for fact in facts):
        raise PictureError(f"{source}: its sdedit block is damaged")
    layer = layer_of(cast("dict[str, object]", edit), source, PictureError)
    return Found(layer, *cast("list[str]", facts), exact=True)


_PAIR = re.compile(r'\s*([\w][\w \-/]*):\s*("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')
_FOREIGN = {
    "Steps": "steps",
    "Sampler": "sampler",
    "Schedule type": "schedule",
    "CFG scale": "cfg_scale",
    "Seed": "seed",
    "Denoising strength": "strength",
    "Clip skip": "clip_skip",
    "Eta": "eta",
}
# What the web UIs call "as the sampler has it".
_DEFAULT_CURVES = ("automatic", "normal", "uniform")


def parse_parameters(text: str, source: str) -> Found | None:
    """What a web UI's text says, as far as it can be used; None when it is not such a text."""
    *lines, last = text.replace("\r\n", "\n").strip().split("\n")
    pairs = {key.strip(): _unquoted(value.strip()) for key, value in _PAIR.findall(last)}
    if len(pairs) < 3 or "Steps" not in pairs:
        return None
    split = next((i for i, line in enumerate(lines) if line.startswith("Negative prompt:")), len(lines))
    values: dict[str, Any] = {"prompt": "\n".join(lines[:split])}
    values["negative_prompt"] = "\n".join(lines[split:]).removeprefix("Negative prompt:").strip()
    ignored: list[str] = []
    known = {field.name: field for field in fields()}
    for key, name in _FOREIGN.items():
        if key in pairs:
            value = _foreign_value(known[name], pairs[key])
            if value is None:
                ignored.append(f"{key}: {pairs[key]}")
            elif value != "":
                values[name] = value
    layer = Layer(source, {name: value for name, value in values.items() if value != ""})
    model, model_hash, vae, vae_hash = (pairs.get(key, "") for key in ("Model", "Model hash", "VAE", "VAE hash"))
    if vae:
        ignored.append(f"VAE: {vae}")
    return Found(layer, model, model_hash, "", vae, vae_hash, ignored=tuple(ignored))


def _foreign_value(field: Field, text: str) -> Any:
    """The value; '' for one that means the default, None for one that has no counterpart here."""
    if field.name == "schedule":
        curve = text.lower().replace(" ", "_")
        return "" if curve in _DEFAULT_CURVES else curve if curve in CURVES else None
    try:
        value = field.parse(text, field.key)
    except UsageError:
        return None
    # Web UIs count the last layer as 1.
    return (value - 1 if value > 1 else "") if field.name == "clip_skip" else value


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ',:\n"') else text


def _unquoted(text: str) -> str:
    if not text.startswith('"'):
        return text
    try:
        return str(json.loads(text))
    except ValueError:
        return text.strip('"')
