"""Settings that rows share are worked out once, and each row gets the edit and the key that it would get alone."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest

from sdedit_cli.batch.keys import Contents, Facts, facts_of, key_of
from sdedit_cli.batch.plan import Place, job_of, plan_batch
from sdedit_cli.batch.rows import Row, layer_of_row
from sdedit_cli.batch.sources import rows_of
from sdedit_cli.batch.targets import Job
from sdedit_cli.batch.wording import Ways, Wording
from sdedit_cli.cli.assignment import ways_of
from sdedit_cli.cli.layering import layering
from sdedit_cli.errors import SdeditError
from sdedit_cli.options import MAX_SEED, Edit, Layer, fields

# Two that are equal as numbers, and other edits; each word with none, one and two places.
VALUES: dict[str, list[Any]] = {
    "strength": [None, 0.5, "0.5,0.25", "0.5..0.25"],
    "repeats": [None, 2],
    "prompt": [None, "a {stem}", "emoji-gold", "b"],
    "negative-prompt": [None, "n {index}"],
    "seed": [None, 7, 8],
    "prompt-embeds": [None, "e.safetensors"],
}
COMMANDS: list[dict[str, Any]] = [
    {},
    {"prompt": "of the command", "seed_mode": "index", "count": 2},
    {"prompt_embeds": "e.safetensors", "seed": 3},
    {"prompt_prefix": "p, ", "seed_mode": "name", "prompt_from": "text", "negative_prompt": "<lora:x:1> {name}"},
]


def ways(**given: Any) -> Ways:
    blank = dict.fromkeys(["prompt_from", "mask_dir", *(field.name for field in fields())])
    given = {**blank, "prompt_prefix": "", "prompt_suffix": "", "seed_mode": "same", **given}
    return ways_of(layering(given, (), None), given)


def words_of(edit: Edit) -> tuple[str, str, int | None]:
    return edit.prompt, edit.negative_prompt, edit.seed


def words_alone(ways: Ways, row: Row, index: int) -> tuple[str, str, int | None]:
    """The words that all layers of a row give together, with what stands in them filled in."""
    found, layer = ways.prompts.layers(row), layer_of_row(row)
    asked = ways.prompts.origin is not None
    edit = ways.plain([layer] if asked else [*found, layer], found if asked else []).edit
    filled = ways.prompts.filled(edit.prompt, edit.negative_prompt, row, index)
    mode = "same" if "seed" in layer.values else ways.seed_mode
    offset = int.from_bytes(hashlib.sha256(row.name.encode()).digest()[:4], "big")
    more = {"same": 0, "index": (index - 1) * edit.count, "name": offset}[mode]
    return filled["prompt"], filled["negative_prompt"], ((edit.seed or 0) + more) % (MAX_SEED + 1)


def alone_of(row: Row, index: int, ways: Ways, place: Place) -> Job | str:
    try:
        return job_of(row, index, Wording(ways, Layer("", {})), place)
    except SdeditError as problem:
        return str(problem)


def test_rows_that_share_settings_get_what_each_gets_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "1.txt").write_text("beside")
    rows = [dict(zip(VALUES, chosen, strict=True)) for chosen in itertools.product(*VALUES.values())]
    random.Random(0).shuffle(rows)
    lines = [json.dumps({"input": f"{n % 3}.png", "output": f"{n}.png", **row}) for n, row in enumerate(rows)]
    (tmp_path / "jobs.jsonl").write_text("\n".join(lines))
    source, place = rows_of("jobs.jsonl"), Place.of("out", None)
    compared = failed = 0
    for given in COMMANDS:
        plan = plan_batch(source, place, ways(**given))
        facts = Facts()
        jobs = {job.index: job for job in plan.jobs}
        failed += len(plan.failures)
        alone = ways(**given)
        for index, row in list(enumerate(source.rows, 1))[::7]:
            job = jobs.get(index)
            expected = alone_of(row, index, alone, place)
            if job is None:
                assert expected in {str(one) for _, _, one in plan.failures}, row
                continue
            assert isinstance(expected, Job), row
            assert job.request.edit == expected.request.edit, row
            assert job.targets == expected.targets, row
            assert repr(job.request.edit) == repr(expected.request.edit), row
            assert words_of(job.request.edit) == words_alone(alone, row, index), row
            for target in job.targets:
                how = {"model": tmp_path, "input_sha256": "0" * 64, "format": "png"}
                edit = job.request.edit.varied({"seed": target.seed, "count": 1})
                told = facts_of(edit, Contents(), **how)  # type: ignore[arg-type]
                assert facts.of(job.request, target.seed, **how) == (told, key_of(told))  # type: ignore[arg-type]
                compared += 1
    assert compared > 100
    assert failed > 100
