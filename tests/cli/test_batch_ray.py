"""`--engine ray`: what is refused without Ray, how workers are shared out, and a batch on a cluster of two nodes."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import QUICK, environment, events, leftovers, one_line, photo, sdedit, start

from sdedit_cli.batch.ray.cluster import Crewing, crewing
from sdedit_cli.cli.main import run
from sdedit_cli.errors import ClusterError, UsageError

PICTURES = 12
COMMAND = ("batch", "in", "-p", "a {stem}", "--json", "--batch-size", "2", *QUICK, "--steps", "8")


@pytest.fixture
def source(folder: Path) -> Path:
    (folder / "in").mkdir()
    for number in range(PICTURES):
        photo(folder / "in" / f"{number}.png", (64, 64 - number % 2 * 8))
    return folder


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.png")}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--address", "auto"], "--address is for --engine ray"),
        (["--workers", "2"], "--workers is for --engine ray"),
        (["--engine", "ray", "--workers", "0"], "--workers"),
        (["--engine", "dask"], "dask"),
    ],
    ids=str,
)
def test_options_of_a_cluster_are_refused_without_one(
    source: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    assert run(["batch", "in", "out", *words]) == 2
    assert told in one_line(capsys.readouterr().err)
    assert not (source / "out").exists()


def test_jobs_on_stdin_come_one_by_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["batch", "-", "out", "--engine", "ray"]) == 2
    assert "come one by one" in one_line(capsys.readouterr().err)


def test_without_ray_one_line_names_the_extra(source: Path) -> None:
    """Here a finder that knows no Ray stands before the others."""
    code = """
import importlib.abc, sys
class Without(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        return None
class Hidden(importlib.abc.MetaPathFinder):
    pass
rest = list(sys.meta_path)
class Rest(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "ray":
            return None
        return next((spec for one in rest if (spec := one.find_spec(name, path, target))), None)
sys.meta_path[:] = [Rest()]
from sdedit_cli.cli.main import run
sys.exit(run(sys.argv[1:]))
"""
    words = [sys.executable, "-c", code, "batch", "in", "out", "--engine", "ray"]
    done = subprocess.run(words, cwd=source, env=environment(), capture_output=True, check=False)
    assert done.returncode == 2
    assert "pip install 'sdedit-cli[ray]'" in one_line(done.stderr)
    assert not (source / "out").exists()


def test_every_worker_gets_a_gpu_or_as_many_cpus_as_the_others() -> None:
    small, large = {"CPU": 8.0, "memory": 1.0}, {"CPU": 64.0}
    gpus = {"CPU": 16.0, "GPU": 4.0}
    for nodes, asked, on_cpus, wanted in (
        ([gpus, gpus, small], None, False, Crewing(8, 0, 1)),
        ([gpus, small], 2, False, Crewing(2, 0, 1)),
        ([gpus, small], None, True, Crewing(2, 8, 0)),
        ([small], None, False, Crewing(1, 8, 0)),
        ([small], 3, False, Crewing(3, 2, 0)),
        ([small, large], None, False, Crewing(2, 32, 0)),
        ([small, large], 9, False, Crewing(9, 8, 0)),
        ([{"CPU": 0.0}, small], None, False, Crewing(1, 8, 0)),
    ):
        assert crewing(nodes, asked, on_cpus=on_cpus) == wanted
    for nodes, asked in (([small], 9), ([gpus], 5)):
        with pytest.raises(UsageError, match="the cluster has"):
            crewing(nodes, asked, on_cpus=False)
    with pytest.raises(ClusterError, match="neither"):
        crewing([{"CPU": 0.5}], None, on_cpus=False)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes of one CPU each; the second is `second`."""
    pytest.importorskip("ray")
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.second = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


@pytest.mark.slow
def test_a_node_that_is_killed_costs_no_picture_and_changes_no_byte(source: Path, cluster: Any) -> None:
    told: list[dict[str, Any]] = []
    words = (*COMMAND, "out", "--engine", "ray", "--address", cluster.address)
    with start(*words, cwd=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            told.append(json.loads(line))
            if told[-1]["event"] == "saved" and sum(one["event"] == "saved" for one in told) == 1:
                cluster.remove_node(cluster.second, allow_graceful=False)
        said = process.stderr.read().decode()
    assert process.returncode == 0, said
    assert next(one for one in told if one["event"] == "load")["workers"] == 2
    lost = [one["message"] for one in told if one["event"] == "warning"]
    assert len(lost) == 1
    assert "was lost; its" in lost[0]
    assert [line for line in said.splitlines() if line.startswith("[") or "ray" in line.lower()] == []
    assert not leftovers(source / "out")
    steps = [(one["input"], one["step"]) for one in told if one["event"] == "step"]
    assert len(set(steps)) == len(steps) == PICTURES * 4

    lines = [json.loads(line) for line in (source / "out" / ".sdedit" / "journal.jsonl").read_text().splitlines()]
    done = [line["output"] for line in lines if line["event"] == "done"]
    assert sorted(done) == sorted(f"{number}.png" for number in range(PICTURES))
    alone = sdedit(*COMMAND, "local", cwd=source)
    assert alone.returncode == 0, alone.stderr
    assert len(hashes(source / "local")) == PICTURES
    assert hashes(source / "out") == hashes(source / "local")
    # The same command without a cluster has nothing left to do.
    again = sdedit(*COMMAND, "out", cwd=source)
    assert sum(one["event"] == "skipped" for one in events(again.stdout)) == PICTURES
