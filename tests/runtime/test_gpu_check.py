"""The check of a machine with a GPU: what it says without one, its kernels, and all of it on a CPU."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.common.rows import Row
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.checks import check, furthest, is_wrong
from benchmarks.gpu.parts import PARTS, Part, in_a_process

ROOT = Path(__file__).parents[2]


def test_a_row_is_wrong_beyond_its_bound_and_where_a_number_is_none() -> None:
    import torch

    assert [is_wrong(check("a", "b", error, 1.0)) for error in (0.5, 1.0, 1.5, float("inf"), float("nan"))] == [
        *(False, False, True, True, True)
    ]
    assert not is_wrong(Row("a", "b", (1.0,)))
    assert furthest(torch.tensor([1.0, float("nan")]), torch.ones(2)) == float("inf")
    assert furthest(torch.tensor([1.0, 2.5]), torch.tensor([1.0, 2.0])) == 0.25


def test_without_a_gpu_it_says_so_and_what_to_try(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    assert main(["--save", str(tmp_path / "x.json")]) == 1
    assert "finds no GPU here; on a machine without one try --device cpu --quick" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_parts_fit_into_eight_minutes() -> None:
    assert sum(part.seconds for part in PARTS.values()) <= 480
    assert all(part.about for part in PARTS.values() if importlib.util.find_spec("triton") or part.name != "kernels")


def test_a_part_that_is_not_done_in_time_or_fails_is_said_to_be_so() -> None:
    rows, why = in_a_process(Part("graphs", 1), ["--device", "cpu", "--quick"], 0.01)
    assert (rows, why) == ([], "was not done within 0 s")
    rows, why = in_a_process(Part("none", 1), [], 60)
    assert rows == []
    assert "ended with code 1: KeyError: 'none'" in why


@pytest.mark.slow
def test_every_kernel_has_the_numbers_of_its_twin(tmp_path: Path) -> None:
    if importlib.util.find_spec("triton") is None:
        pytest.skip("triton is not installed, so there are no kernels")
    rows = tmp_path / "rows"
    words = [sys.executable, "-m", "benchmarks.gpu.one_part", "kernels", str(rows), "--device", "cpu", "--quick"]
    subprocess.run(words, check=True, cwd=ROOT, env={**os.environ, "TRITON_INTERPRET": "1"}, timeout=600)
    found = [Row.from_json(json.loads(line)) for line in rows.read_text().splitlines()]
    assert len(found) == 3 * (2 * 6 + 3) + 1
    assert [(row.what, row.median) for row in found if is_wrong(row)] == []


@pytest.mark.slow
def test_all_of_it_can_be_tried_on_a_cpu(tmp_path: Path) -> None:
    save = tmp_path / "here.json"
    parts = ["machine", "graphs", "steps"]
    words = [
        sys.executable,
        "-m",
        "benchmarks.gpu",
        "--device",
        "cpu",
        "--quick",
        "--save",
        str(save),
        "--parts",
        *parts,
    ]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    topics = {topic["topic"]: topic for topic in json.loads(save.read_text())["topics"]}
    assert list(topics) == [f"gpu {name}" for name in parts]
    assert all(topic["rows"] for topic in topics.values())
    page = save.with_suffix(".md").read_text()
    assert "torch: " in page
    assert "python -m benchmarks.gpu --device cpu --quick" in page
