"""`sdedit lora inspect`: what a file of an adapter is, without a model."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from ...errors import ModelError, listed, printable, shown
from ..file_commands import DEBUG, Answer, check_source
from ..flags import options
from ..info import show, tell_each
from .lost import SCHEMA, span
from .options import ADAPTER, AS_JSON, MODEL

_BAR = 24
_LONGEST, _MOST = 300, 1000  # characters of a name, and names that are listed
_REASONS = 5
_SHOWN = 60  # characters of a value of metadata
# What of the metadata is shown to people; --json has all that training programs write.
_TRAINING = (
    *("modelspec.title", "modelspec.author", "modelspec.license", "modelspec.description", "ss_output_name"),
    *("ss_base_model_version", "modelspec.architecture", "ss_sd_model_name", "ss_network_module", "ss_network_args"),
    *("ss_resolution", "ss_clip_skip", "ss_num_train_images", "ss_epoch", "ss_steps", "ss_optimizer", "ss_unet_lr"),
    *("ss_text_encoder_lr", "ss_learning_rate", "ss_training_comment"),
)


@click.command("inspect", cls=Answer, short_help="Say what a LoRA file is.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=ADAPTER)
@options(AS_JSON, MODEL, DEBUG)
def inspect(files: tuple[Path, ...], as_json: bool, model: str | None) -> None:
    """Say what each FILE is: naming, kinds, family, ranks and alphas, how much each block of the model is changed, what
    its training said, and the hashes by which web UIs know it.

    No model is needed; files for other families are described too. The bars show the norm of what is added to the
    weights at strength 1.
    """
    tell_each(files, lambda path: facts_of(path, model), _show, schema=SCHEMA, as_json=as_json)


def facts_of(path: Path, model: str | None) -> dict[str, Any]:
    """What a file is, as JSON values. Raises InputError when it cannot be read or is no adapter."""
    from ...adapters.describe import describe
    from ...adapters.open import open_adapter
    from ...adapters.training import frequent_tags, training_facts, trigger_words
    from ...disk.hashes import payload_hash, remembered_hash
    from .architectures import architectures_of, titles

    check_source(path)
    source, header = open_adapter(path)
    fitting = architectures_of(source, model)
    said = dataclasses.asdict(describe(source, header, fitting[0] if fitting else None))
    try:
        # Of a folder with an adapter for each component there is no one hash.
        sha256, payload = (remembered_hash(file), payload_hash(file)) if (file := source.path).is_file() else ("", "")
    except OSError as problem:
        raise ModelError(f"{path}: cannot be read ({problem.strerror or problem}); check its permissions") from None
    return {
        "file": str(path),
        "format": source.format,
        **said,
        "family": titles(fitting) or said["family"],
        "unmatched": [shown(name, _LONGEST) for name in said["unmatched"][:_MOST]],
        "problems": [shown(text, _LONGEST) for text in said["problems"][:_MOST]],
        "matched": {part: {"modules": n, "of": of} for part, (n, of) in said["matched"].items()},
        "trigger": trigger_words(source.metadata),
        "tags": dict(frequent_tags(source.metadata)),
        "training": training_facts(source.metadata),
        "sha256": sha256,
        "autov2": sha256[:10],
        "lora_hash": payload[:12],
    }


def _show(facts: Mapping[str, Any]) -> None:
    rows: list[tuple[str, str]] = [
        (
            "kind",
            ", ".join(f"{words} ({_modules(count)})" for words, count in facts["kinds"].items()) or "none is whole",
        ),
        ("names", f"{facts['dialect']}; {facts['format']}, {'/'.join(facts['dtypes'])}"),
        ("family", _family(facts)),
        *((part.replace("_", " "), _matched(own)) for part, own in facts["matched"].items()),
        ("rank", _often(facts["ranks"])),
        ("alpha", _often(facts["alphas"])),
        ("unmatched", _some(facts["unmatched"], "keys")),
        ("problems", "\n".join(_reasons(facts["problems"]))),
        ("trigger", shown(facts["trigger"], _SHOWN * 4)),
        ("tags", ", ".join(f"{shown(tag, _SHOWN)} ({count})" for tag, count in facts["tags"].items())),
        *((key, shown(facts["training"][key], _SHOWN * 4)) for key in _TRAINING if facts["training"].get(key)),
        ("SHA-256", facts["sha256"]),
        ("AutoV2", facts["autov2"]),
        ("LoRA hash", facts["lora_hash"]),
    ]
    show(facts["file"], [(label, value) for label, value in rows if value])
    for line in chart(facts["blocks"], shutil.get_terminal_size().columns):
        click.echo(line)


def _family(facts: Mapping[str, Any]) -> str:
    family = facts["family"] or "not known by its names or shapes"
    return family if facts["works"] else f"{family}; described, not applied by this program"


def _matched(own: Mapping[str, Any]) -> str:
    return _modules(own["modules"]) + (f" of {own['of']}" if own["of"] is not None else "")


def _modules(count: int) -> str:
    return "1 module" if count == 1 else f"{count} modules"


def _often(counts: Mapping[float, int]) -> str:
    """'8' or '8 (192 modules), 4 (72)', the rest counted."""
    if len(counts) < 2:
        return "".join(f"{value:g}" for value in counts)
    first = [f"{value:g} ({_modules(count)})" for value, count in list(counts.items())[:4]]
    return ", ".join(first) + (f" and {len(counts) - 4} others" if len(counts) > 4 else "")


def _some(names: Sequence[str], what: str) -> str:
    return f"{len(names)} {what}: {listed(names, 3)}" if names else ""


def _reasons(problems: Sequence[str]) -> list[str]:
    """What is wrong, each reason once, with the modules that it is true of."""
    modules: dict[str, list[str]] = {}
    for text in problems:
        module, _, why = text.partition(": ")
        modules.setdefault(why, []).append(module)
    return [f"{why} ({listed(found, 1)})" for why, found in modules.items()][:_REASONS]


def chart(blocks: Iterable[Mapping[str, Any]], columns: int) -> list[str]:
    """A line for each block: its modules, ranks and alphas, and a bar as long as its norm; narrow ones say less."""
    rows = [_row(block) for block in blocks]
    if not rows:
        return []
    norms = [block["norm"] for block in blocks]
    largest = max((norm for norm in norms if norm is not None), default=0.0)
    widths = [max(len(row[at]) for row in rows) for at in range(5)]
    kept = [0, 1, 2, 3, 4]
    for left_out in (3, 1, 2):  # until there is room for a bar
        if _room(widths, kept, columns) < 8:
            kept.remove(left_out)
    room = max(4, min(_BAR, _room(widths, kept, columns)))
    lines: list[str] = []
    for row, norm in zip(rows, norms, strict=True):
        cells = [f"{row[at]:<{widths[at]}}" if at != 4 else f"{row[at]:>{widths[at]}}" for at in kept]
        bar = "\u2588" * max(1, round(room * norm / largest)) if norm and largest else ""
        lines.append("  ".join(("", *cells, bar)).rstrip())
    return lines


def _room(widths: Sequence[int], kept: Sequence[int], columns: int) -> int:
    return columns - 1 - sum(widths[at] + 2 for at in kept) - 2


def _row(block: Mapping[str, Any]) -> tuple[str, str, str, str, str]:
    label = f"text {block['name']}" if block["component"].startswith("text") else block["name"]
    return (
        printable(label),
        _modules(block["modules"]),
        f"rank {span(block['ranks'])}" if block["ranks"] else "",
        f"alpha {span(block['alphas'])}" if block["alphas"] else "",
        "needs the model" if block["norm"] is None else f"{block['norm']:.3g}",
    )
