"""`sdedit info`: what a checkpoint or a picture is; without a file, what this machine is."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import shutil
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..disk.sizes import size_text
from ..errors import InputError, ModelError, PictureError, UsageError, printable, shortened, shown
from ..options import field_named
from ..signals import check
from .file_commands import DEBUG, Answer, check_source
from .folders import AdapterPath
from .render import lines_of, plain

if TYPE_CHECKING:
    from ..adapters.recognise import Recognised
    from ..pictures.record import Ingredient

SCHEMA = "sdedit.info/1"
_PNG = b"\x89PNG"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PICTURES = (_PNG, b"\xff\xd8\xff", b"GIF8", b"BM", b"8BPS", b"icns", *_TIFF)
# More of a value than a few screens is for --json.
_LONGEST = 2000
_NARROWEST = 30
_MOST_WORDS = 20
_STRENGTHS = {"scale": "strength", "te_scale": "text encoder"}
_AUTOV1 = 0x100000


@click.command("info", cls=Answer, short_help="Say what a file or this machine is.")
@click.argument("files", nargs=-1, metavar="[FILE]...", type=AdapterPath("lora", "embedding"))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a file on stdout.")
@click.option(
    "--as",
    "way",
    type=click.Choice(["command", "preset"]),
    help="Of pictures, print what makes them again: a command line, quoted for Unix shells, or a preset in TOML.",
)
@click.option("--no-hash", is_flag=True, help="Leave the hashes out: they take a while on large files.")
@DEBUG
def command(files: tuple[Path, ...], as_json: bool, way: str | None, no_hash: bool) -> None:
    """Say what each FILE is: a checkpoint, a model folder, a LoRA or another adapter, an embedding, a picture.

    Family, prediction type, precision, sizes and the hashes by which web UIs know a file. Nothing in a file is
    executed. Without a FILE: versions, devices, precisions, caches and model folders of this machine.
    """
    if way is not None and (as_json or not files):
        raise UsageError("--as is for people" if as_json else "--as needs a picture; name a FILE")
    if way is not None:
        _tell_again(files, way)
    else:
        _tell(files, as_json=as_json, hashes=not no_hash)


def _tell(files: tuple[Path, ...], *, as_json: bool, hashes: bool) -> None:
    if not files:
        from .machine import machine, machine_rows

        facts = machine()
        if as_json:
            click.echo(json.dumps({"schema": SCHEMA, **facts}))
        else:
            show("This machine", machine_rows(facts))
        return
    tell_each(
        files,
        lambda path: file_facts(path, hashes=hashes),
        lambda facts: show(facts["file"], file_rows(facts)),
        schema=SCHEMA,
        as_json=as_json,
    )


def _tell_again(files: Sequence[Path], way: str) -> None:
    """Prints what makes each picture again, and tells what of it is for people to add. Raises PictureError."""
    from ..pictures.carriers import find
    from .again import WAYS, asked_again, for_people_to_add
    from .replay import without_idle

    for path in files:
        found = without_idle(find(path))
        click.echo(WAYS[way](asked_again(found)))
        for note in for_people_to_add(found):
            click.echo(f"{plain(str(path))}: {plain(note)}", err=True)


def tell_each(
    files: Sequence[Path],
    facts_of: Callable[[Path], dict[str, Any]],
    show: Callable[[dict[str, Any]], object],
    *,
    schema: str,
    as_json: bool,
) -> None:
    """Shows the facts of each file, or prints them as an object a line. Raises InputError, after the others, when some
    cannot be used."""
    failed: list[InputError] = []
    for path in files:
        try:
            facts = facts_of(path)
        except InputError as error:
            failed.append(error)
            if as_json:
                click.echo(json.dumps({"schema": schema, "file": str(path), "error": str(error)}))
            if len(files) > 1:
                click.echo(f"sdedit: {lines_of(error)}", err=True)
            continue
        check()
        if as_json:
            click.echo(json.dumps({"schema": schema, **facts}))
        else:
            show(facts)
    if not failed:
        return
    outcome = failed[0] if len(files) == 1 else InputError(f"{len(failed)} of {len(files)} files cannot be used")
    # Programs have had an object for each file; the event that ends other commands has no place among them.
    outcome.reported = as_json
    raise outcome


def file_facts(path: Path, *, hashes: bool = True) -> dict[str, Any]:
    """What a file is, as JSON values. Raises InputError when it is not there or cannot be read."""
    check_source(path)
    try:
        facts = {"file": str(path), "bytes": _size(path)}
        is_picture, told = _told(path)
        facts |= told
        return facts | (_hashes(path, model=not is_picture) if hashes and path.is_file() else {})
    except OSError as problem:
        reason = problem.strerror or problem
        raise ModelError(f"{shortened(path)}: cannot be read ({reason}); check its permissions") from None


def _told(path: Path) -> tuple[bool, dict[str, Any]]:
    """Whether a file is a picture, and its facts."""
    if _is_marked_picture(path):
        return True, _picture(path)
    try:
        return False, _weights(path)
    except ModelError:
        from ..pictures.peek import begins_as_picture

        if path.is_file() and begins_as_picture(str(path)):
            return True, _picture(path)
        raise


def _is_marked_picture(path: Path) -> bool:
    """Whether a file is of the formats that most pictures have, by its mark."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(12)
    return start.startswith(_PICTURES) or (start[:4] == b"RIFF" and start[8:] == b"WEBP") or start[4:8] == b"ftyp"


def _picture(path: Path) -> dict[str, Any]:
    from ..pictures.carriers import settings
    from ..pictures.codec import open_picture, read_bytes
    from .replay import without_idle

    found: dict[str, Any] = {"type": "picture", "kind": "picture"}
    try:
        opened = open_picture(read_bytes(str(path)), str(path), math.inf)
        found |= opened.facts
        said = without_idle(settings(opened, str(path)))
    except PictureError as error:
        return _embedded(path, found) or {**found, "note": str(error).removeprefix(f"{path}: ")}
    return {
        **found,
        "model": said.model.name,
        "model_sha256": said.model.sha256,
        **({"program": said.program} if said.program else {}),
        **({"left_out": list(said.ignored)} if said.ignored else {}),
        "ingredients": [_ingredient(one) for one in said.ingredients if one.name and one.kind != "model"],
        "settings": {field_named(name, "").key: value for name, value in said.layer.values.items()},
    }


def _ingredient(one: Ingredient) -> dict[str, Any]:
    """A file that took part, as JSON values: what is known of it."""
    return {key: value for key, value in dataclasses.asdict(one).items() if value not in ("", None)}


def _embedded(path: Path, found: dict[str, Any]) -> dict[str, Any] | None:
    """The facts of a picture that an embedding is kept in; None for any other."""
    with path.open("rb") as file:
        if not file.read(4).startswith(_PNG):
            return None
    from ..adapters.recognise import in_picture

    adapter = in_picture(path)
    return {**found, **_adapter(adapter)} if adapter else None


def _weights(path: Path) -> dict[str, Any]:
    from ..adapters.recognise import adapter_in, recognised
    from ..weights.checkpoint.other_folders import lone_file
    from ..weights.describe import describe
    from ..weights.formats.open import open_weights
    from .lora.architectures import family_by_shapes

    check()
    inner = (adapter_in(path) or lone_file(path)) if path.is_dir() else None
    facts = dataclasses.asdict(describe(inner or path))
    del facts["path"]
    adapter = None if facts["components"] else recognised(open_weights(inner or path))
    if adapter is None:
        return {"type": "weights", **facts, **_within(inner)}
    facts["metadata"].pop(adapter.header, None)
    told = facts | _adapter(adapter, inner)
    if adapter.type == "lora" and not adapter.family:
        told["family"] = family_by_shapes(open_weights(inner or path))
    return told


def _adapter(adapter: Recognised, inner: Path | None = None) -> dict[str, Any]:
    """The facts that an adapter's own replace."""
    words = [f"'{shown(word.name)}' ({word.vectors} x {word.width})" for word in adapter.words[:_MOST_WORDS]]
    return {
        "type": adapter.type,
        "kind": adapter.kind,
        "family": adapter.family,
        "note": adapter.note,
        "extra_tensors": 0,
        "words": words,
        "made": dict(adapter.made),
        **_within(inner),
    }


def _within(inner: Path | None) -> dict[str, str]:
    """The file that the facts of a folder are of."""
    return {"weights": inner.name} if inner else {}


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def _hashes(path: Path, *, model: bool) -> dict[str, str]:
    from ..disk.hashes import remembered_hash

    sha256 = remembered_hash(path)
    if not model:
        return {"sha256": sha256}
    # Of a file that ends before the part that is hashed, web UIs have a hash of nothing, the same for all.
    old = {"autov1": autov1(path)} if path.stat().st_size > _AUTOV1 else {}
    return {"sha256": sha256, "autov2": sha256[:10], **old}


def autov1(path: Path) -> str:
    """The oldest hash of web UIs: the start of the SHA-256 of 64 KiB that begin at the first mebibyte."""
    with path.open("rb") as file:
        file.seek(_AUTOV1)
        return hashlib.sha256(file.read(0x10000)).hexdigest()[:8]


Row = tuple[str, str]


def file_rows(facts: dict[str, Any]) -> list[Row]:
    """The facts about a file as a table for people."""
    rows: list[Row] = [("kind", facts["kind"])]
    for key, show in _SHOWN:
        if facts.get(key):
            rows += show(facts)
    return rows


def _components(facts: dict[str, Any]) -> list[Row]:
    return [
        (
            str(part["name"]).replace("_", " "),
            f"{part['parameters'] / 1e6:,.1f} M parameters, {'/'.join(part['dtypes'])}, {size_text(part['bytes'])}",
        )
        for part in facts["components"]
    ]


def _prediction(facts: dict[str, Any]) -> list[Row]:
    return [("predicts", f"{facts['prediction_type']} ({facts['said_by']})")]


def _taken(one: dict[str, Any]) -> str:
    strengths = (f"{label} {one[key]:g}" for key, label in _STRENGTHS.items() if key in one)
    return shown(", ".join([one["name"], *strengths]))


def _plain(key: str, label: str = "") -> Callable[[dict[str, Any]], list[Row]]:
    return lambda facts: [(label or key, str(facts[key]))]


def _pairs(key: str, longest: int = 100) -> Callable[[dict[str, Any]], list[Row]]:
    return lambda facts: [
        (shown(name, 40), shown(str(value), longest)) for name, value in facts[key].items() if name != "format"
    ]


# fact -> the rows that show it, in the order of the table
_SHOWN: tuple[tuple[str, Callable[[dict[str, Any]], list[Row]]], ...] = (
    ("format", _plain("format")),
    ("weights", _plain("weights", "file")),
    ("bytes", lambda facts: [("size", size_text(facts["bytes"]))]),
    ("family", lambda facts: [("family", facts["family"])] if facts["type"] != "weights" else []),
    ("words", lambda facts: [("words", ", ".join(facts["words"]))]),
    ("made", _pairs("made")),
    ("prediction_type", _prediction),
    ("components", _components),
    ("has_ema", lambda _: [("EMA", "has an averaged copy of the UNet (--ema takes it)")]),
    ("extra_tensors", lambda facts: [("other", f"{facts['extra_tensors']} tensors that are not needed")]),
    ("width", lambda facts: [("pixels", f"{facts['width']} x {facts['height']}, {facts['mode']}")]),
    ("profile", lambda facts: [("profile", shown(facts["profile"]))]),
    ("note", _plain("note")),
    ("program", _plain("program", "made by")),
    ("model", lambda facts: [("model", shown(facts["model"]))]),
    ("ingredients", lambda facts: [(one["kind"], _taken(one)) for one in facts["ingredients"]]),
    ("settings", _pairs("settings", _LONGEST)),
    ("left_out", lambda facts: [("left out", one) for one in facts["left_out"]]),
    ("metadata", _pairs("metadata")),
    ("sha256", _plain("sha256", "SHA-256")),
    ("autov1", _plain("autov1", "AutoV1")),
    ("autov2", _plain("autov2", "AutoV2")),
)


def show(title: str, rows: Sequence[Row]) -> None:
    """A table of facts under a title, as wide as the terminal."""
    width = max(len(label) for label, _ in rows)
    room = max(_NARROWEST, shutil.get_terminal_size().columns - width - 4)
    click.echo(printable(title))
    for label, value in rows:
        first, *more = [part for line in value.split("\n") for part in _wrapped(printable(line), room)]
        click.echo(f"  {label:<{width}}  {first}")
        for line in more:
            click.echo(f"  {'':<{width}}  {line}")


def _wrapped(line: str, room: int) -> list[str]:
    """The line in pieces that end between words."""
    return textwrap.wrap(line, room, break_long_words=False, break_on_hyphens=False) or [""]
