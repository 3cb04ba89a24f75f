"""`sdedit samplers`: the names that --sampler takes."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click

from .file_commands import Answer

SCHEMA = "sdedit.samplers/1"


@click.command("samplers", cls=Answer, short_help="List the samplers.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a sampler on stdout.")
def command(as_json: bool) -> None:
    """List the samplers that --sampler takes: the name of web UIs, the short one, that of model folders, and the curves
    that --schedule may give it.

    Case, spaces, dashes and underscores don't count: 'DPM++ 2M Karras' is dpmpp_2m_karras.
    """
    for sampler in listed():
        click.echo(json.dumps({"schema": SCHEMA, **sampler}) if as_json else _row(sampler))


def listed() -> Iterator[dict[str, str | list[str]]]:
    """Every sampler: its names, the curves that may follow its name, and those that --schedule may give it."""
    from ..configs.scheduler import OPTIONS
    from ..noise.samplers import CLASS_OF, CURVES, SAMPLERS
    from ..options import CURVES as SCHEDULES

    endings = {f" {curve.capitalize()}": curve for curve in CURVES}
    for name, (solver, _) in SAMPLERS.items():
        if any(name.endswith(ending) for ending in endings):
            continue
        curves = [curve for ending, curve in endings.items() if name + ending in SAMPLERS]
        schedules = [curve for curve in SCHEDULES if CURVES[curve].keys() <= OPTIONS[CLASS_OF[solver]].keys()]
        word = name.lower().replace("++", "pp").replace(" ", "_")
        yield {"name": name, "word": word, "class": CLASS_OF[solver], "curves": curves, "schedules": schedules}


def _row(sampler: dict[str, str | list[str]]) -> str:
    curves = ", ".join(sampler["schedules"])
    return f"{sampler['name']:<18} {sampler['word']:<18} {sampler['class']:<32} {curves}".rstrip()
