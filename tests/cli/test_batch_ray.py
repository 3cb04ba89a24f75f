"""`--engine ray`: what is refused without Ray, how workers are shared out, and a batch on a cluster of two nodes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import BUILT_IN, QUICK, ROOT, environment, events, leftovers, one_line, photo, start
from helpers.fragile import DEADLY, HUGE, MOST, fragile_models, models_elsewhere

from sdedit_cli.batch.ray.cluster import Crewing, crewing
from sdedit_cli.batch.ray.host import Wanted, on_ray
from sdedit_cli.batch.request import Model, Request
from sdedit_cli.batch.worker import Late, Task, Worker
from sdedit_cli.cli.host import Models
from sdedit_cli.cli.main import run
from sdedit_cli.errors import ClusterError, ModelError, OutOfMemory, SdeditError
from sdedit_cli.options import Edit
from sdedit_cli.pictures.codec import read_picture

PICTURES = 10
COMMAND = ("batch", "in", "-p", "a {stem}", "--json", "--batch-size", "2", *QUICK, "--steps", "6")


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
        with pytest.raises(ClusterError, match="the cluster has"):
            crewing(nodes, asked, on_cpus=False)
    with pytest.raises(ClusterError, match="neither"):
        crewing([{"CPU": 0.5}], None, on_cpus=False)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes of one CPU each; the second is `second`."""
    pytest.importorskip("ray")
    for name, value in environment(PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT / "tests")])).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.second = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


def power_off(cluster: Any, node: Any) -> None:
    """A node that is gone with all it ran. Left to themselves, its workers notice after seconds, and go on till then;
    each is in a process group of its own."""
    raylet = node.all_processes["raylet"][0].process.pid
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,pgid="], capture_output=True, text=True, check=True)
    rows = [[int(word) for word in line.split()] for line in listed.stdout.splitlines()]
    workers = [pid for pid, parent, group in rows if parent == raylet and pid == group]
    assert workers
    cluster.remove_node(node, allow_graceful=False)
    for pid in workers:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def without(cluster: Any, node: Any, source: Path, *more: str) -> tuple[int, list[dict[str, Any]], str]:
    """The exit code, the events and the stderr of a batch on a cluster that loses a node after the first picture."""
    told: list[dict[str, Any]] = []
    words = (*COMMAND, "out", *more, "--engine", "ray", "--address", cluster.address)
    with start(*words, cwd=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            told.append(json.loads(line))
            if told[-1]["event"] == "saved" and sum(one["event"] == "saved" for one in told) == 1:
                power_off(cluster, node)
        said = process.stderr.read().decode()
    return process.returncode, told, said


@pytest.mark.slow
def test_a_cluster_without_its_first_machine_ends_the_run_in_words_and_the_next_one_goes_on(
    source: Path, cluster: Any
) -> None:
    """Ray alone would wait for a minute, and then end our process."""
    code, told, said = without(cluster, cluster.head_node, source, "--steps", "30")
    assert code == told[-1]["exit_code"] == ClusterError.exit_code, said
    assert "the first machine of the cluster" in said.splitlines()[-1]
    assert [line for line in said.splitlines() if line.startswith("[")] == []
    saved = told[-1]["saved"]
    assert 0 < saved < PICTURES
    assert not leftovers(source / "out")
    assert run([*COMMAND, "out", "--steps", "30"]) == 0
    assert len(hashes(source / "out")) == PICTURES


@pytest.mark.slow
def test_a_node_that_is_killed_costs_no_picture_and_changes_no_byte(
    source: Path, cluster: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    code, told, said = without(cluster, cluster.second, source, "--steps", "30")
    assert code == 0, said
    assert next(one for one in told if one["event"] == "load")["workers"] == 2
    lost = [one["message"] for one in told if one["event"] == "warning"]
    assert len(lost) == 1
    assert "was lost; its" in lost[0]
    assert [line for line in said.splitlines() if line.startswith("[") or "ray" in line.lower()] == []
    assert not leftovers(source / "out")
    steps = [(one["input"], one["step"]) for one in told if one["event"] == "step"]
    assert len(set(steps)) == len(steps) == PICTURES * 15

    lines = [json.loads(line) for line in (source / "out" / ".sdedit" / "journal.jsonl").read_text().splitlines()]
    done = [line["output"] for line in lines if line["event"] == "done"]
    assert sorted(done) == sorted(f"{number}.png" for number in range(PICTURES))
    assert run([*COMMAND, "local", "--steps", "30"]) == 0
    assert len(hashes(source / "local")) == PICTURES
    assert hashes(source / "out") == hashes(source / "local")
    # The same command without a cluster has nothing left to do.
    capfd.readouterr()
    assert run([*COMMAND, "out", "--steps", "30"]) == 0
    assert sum(one["event"] == "skipped" for one in events(capfd.readouterr().out)) == PICTURES


def edited(worker: Worker, prompts: list[str], size: int | None) -> list[bytes | str]:
    """The hash of each picture, or the word of its error, in the order of the prompts."""
    picture = read_picture("in/0.png", 100.0, None)
    tasks = [Task(Edit(prompt=p, seed=n, steps=2, dtype="fp32"), picture, f"{n}", "png") for n, p in enumerate(prompts)]
    ended = dict(worker.edits(iter(tasks), size))
    assert set(ended) == set(tasks)
    outcomes = [ended[task] for task in tasks]
    return [one.word if isinstance(one, SdeditError) else hashlib.sha256(whole(one.data)).digest() for one in outcomes]


def whole(data: bytes | Late) -> bytes:
    return data.value() if isinstance(data, Late) else data


@pytest.mark.slow
def test_what_kills_workers_fails_alone_and_what_is_too_large_begins_anew(source: Path, cluster: Any) -> None:
    request = Request(Edit(dtype="fp32", device="cpu"), Model("built-in", None))
    here = Models(lambda text: None)
    alone = here.load(request, print, lambda facts: None)
    warnings: list[str] = []
    with on_ray(Wanted(cluster.address, 2), here, fragile_models) as host:
        worker = host.load(request, warnings.append, lambda facts: None)
        plain = [f"a {number}" for number in range(6)]
        # With too little memory for several at a time the caller begins anew, and nothing of the first time is left.
        with pytest.raises(OutOfMemory):
            edited(worker, plain, MOST + 1)
        assert edited(worker, plain, MOST) == edited(alone, plain, MOST)
        # Where each is made alone, the picture fails, and those around it do not.
        assert edited(worker, [*plain[:3], HUGE, *plain[:3]], None) == [
            *edited(alone, plain[:3], None),
            "out-of-memory",
            *edited(alone, [*plain[:3], "", *plain[:3]], None)[4:],
        ]
        assert warnings == []
        outcomes = edited(worker, [DEADLY, *plain], MOST)
        assert outcomes[0] == "worker-lost"
        assert outcomes[1:] == edited(alone, ["", *plain], MOST)[1:]
        assert len([text for text in warnings if "was lost" in text]) == 3


@pytest.mark.slow
def test_a_model_that_is_missing_or_another_one_at_a_node_is_told_with_its_name(source: Path, cluster: Any) -> None:
    """Here the workers are in a folder of their own, where a relative path finds what is there."""
    (source / "elsewhere").mkdir()
    theirs = source / "elsewhere" / "model"
    shutil.copytree(BUILT_IN, "model")
    request = Request(Edit(dtype="fp32", device="cpu"), Model("mine", Path("model")))
    with on_ray(Wanted(cluster.address), Models(lambda text: None), models_elsewhere) as host:
        host.check(request)
        with pytest.raises(ModelError, match=f"^node {socket.gethostname()}: model: is missing on this node"):
            host.load(request, print, lambda facts: None)
        shutil.copytree("model", theirs)
        (theirs / "scheduler" / "scheduler_config.json").write_text(
            (theirs / "scheduler" / "scheduler_config.json").read_text() + " "
        )
        with pytest.raises(ModelError, match=f"^node {socket.gethostname()}: model: is another file on this node"):
            host.load(request, print, lambda facts: None)
        shutil.rmtree(theirs)
        shutil.copytree("model", theirs)
        outcomes = edited(host.load(request, print, lambda facts: None), ["a", "b"], 2)
    assert outcomes == edited(Models(lambda text: None).load(request, print, lambda facts: None), ["a", "b"], 2)
