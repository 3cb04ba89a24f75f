"""What `--like` means beyond the settings that it brings: whose fault they are, and which picture is there already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..batch.request import Request
from ..disk.hashes import content_hash
from ..errors import PictureError, UsageError
from ..options import MAX_SEED, Edit, Layer, fields
from ..options.adapters import LoraFile
from ..options.masks import ALPHA
from ..pictures.promise import other_settings
from ..pictures.record import Found


def check_sampler(sampler: str | None, like: str | None) -> None:
    """Raises UsageError for a sampler that does not exist, PictureError when it is the picture `like` that names it.

    Before anything heavy is imported.
    """
    if sampler is None:
        return
    from ..noise.samplers import find

    try:
        find(sampler)
    except UsageError as problem:
        if like is None:
            raise
        raise PictureError(f"{like}: names an {problem}; --sampler overrides it") from None


def check_eta(layer: Layer) -> None:
    """Raises UsageError for a sampler and an eta that are said in one breath, where the sampler takes none.

    One that comes from elsewhere, as from a preset, does nothing then.
    """
    sampler, eta = layer.values.get("sampler"), layer.values.get("eta")
    if not sampler or not eta:
        return
    from ..noise.samplers import TAKE_ETA, find

    if (name := find(sampler)[0]) not in TAKE_ETA:
        able = ", ".join(TAKE_ETA)
        raise UsageError(f"sampler '{name}' takes no eta, and eta is {eta:g}; these samplers do: {able}")


def without_idle(found: Found) -> Found:
    """What a picture says, with its eta and curve among what is left out where the sampler that it names takes none.

    Other programs write them beside any sampler, and here they would be refused as options that do nothing.
    """
    from ..configs.scheduler import OPTIONS
    from ..noise.samplers import CLASS_OF, CURVES, TAKE_ETA, find

    values = found.layer.values
    sampler, eta, curve = (values.get(name) for name in ("sampler", "eta", "schedule"))
    if not sampler:
        return found
    try:
        solver, _ = find(sampler)
    except UsageError:
        return found  # the run says so of the sampler
    idle: dict[str, str] = {}
    if eta and solver not in TAKE_ETA:
        idle["eta"] = f"eta: {eta:g}"
    if curve and not CURVES[curve].keys() <= OPTIONS[CLASS_OF[solver]].keys():
        idle["schedule"] = f"schedule: {curve}"
    kept = {name: value for name, value in values.items() if name not in idle}
    return replace(found, layer=replace(found.layer, values=kept), ignored=(*found.ignored, *idle.values()))


def beyond(request: Request, inputs: Sequence[str]) -> Request:
    """The request with seeds that begin behind the picture of `--like`, when its first picture would be that one again.

    So it is when several are asked for of the same input with the same settings. Another input, model or setting makes
    another picture, and it keeps its seed.
    """
    edit, found = request.edit, request.like
    if found is None or edit.count == 1 or edit.seed is None or not _made_so(request, found) or len(inputs) != 1:
        return request
    if inputs[0] == "-" or _hash(inputs[0]) != found.input_hash:
        return request
    return request.asking(replace(edit, seed=(edit.seed + 1) % (MAX_SEED + 1)))


def of_another_input(found: Found | None, inputs: Sequence[str]) -> tuple[str, ...]:
    """A note for people where the picture of `--like` was made of another input than the only one here."""
    if found is None or not found.input_hash or len(inputs) != 1 or inputs[0] == "-":
        return ()
    if _hash(inputs[0]) in ("", found.input_hash):
        return ()
    return (f"{found.layer.source} was made of another input than {inputs[0]}, so expect another picture",)


def of_other_settings(found: Found | None, edit: Edit) -> tuple[str, ...]:
    """A note for people where what is asked for is not the edit that made the picture of `--like`."""
    if found is None:
        return ()
    source = found.layer.source
    if not found.exact:
        program = found.program or "another program"
        return (f"{source} was made by {program}: the same settings make a similar picture at best",)
    others = other_settings(found, edit)
    return (f"{source} was made with other settings, so expect another picture: {', '.join(others)}",) if others else ()


def _made_so(request: Request, found: Found) -> bool:
    # Of further ingredients, a request may name others under the same name.
    compared = ("model", "lora", "mask")
    files = [field.name for field in fields() if field.option.path and field.name not in compared]
    plain = not any(getattr(request.edit, name) for name in files)
    plain &= all(one.kind in compared or not one.name for one in found.ingredients)
    same_model = request.model.name == found.model.name
    same = found.exact and plain and same_model and not other_settings(found, request.edit)
    same = same and found.layer.values.get("seed") == request.edit.seed
    return same and _same_loras(request.edit.lora, found) and _same_mask(request.edit.mask, found)


def _same_mask(mask: str | None, found: Found) -> bool:
    theirs = next((one.sha256 for one in found.ingredients if one.kind == "mask"), None)
    if mask is None or theirs is None:
        return mask is theirs
    return not theirs if mask == ALPHA else bool(theirs) and _hash(mask).startswith(theirs)


def _same_loras(files: Sequence[LoraFile], found: Found) -> bool:
    theirs = [one for one in found.ingredients if one.kind == "lora"]
    told = [(one.scale, one.te_scale, one.blocks, one.dyn) for one in theirs]
    if told != [(file.scale, file.te_scale, file.blocks, file.dyn) for file in files]:
        return False
    try:
        return [one.sha256 for one in theirs] == [content_hash(Path(file.path)) for file in files]
    except OSError:
        return False  # the run says what is wrong with it


def _hash(path: str) -> str:
    from ..pictures.codec import read_bytes

    try:
        import hashlib

        return hashlib.sha256(read_bytes(path)).hexdigest()
    except PictureError:
        return ""  # the run says what is wrong with it
