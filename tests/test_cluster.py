"""Tasks on a Dask cluster: the same results, in order, whatever dies; and one line where it cannot be."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, run_stage
from test_only_declared import outputs
from working import Asked, always_fatal, once_fatal, pins, slowly, square_of

import stages
from stages import runtime
from stages.shell import cluster_child
from stages.shell.cluster import identity
from stages.shell.errors import InputError

pytest.importorskip("distributed", reason="the extra `cluster` is not installed (requirements-cluster.lock)")
from machines import Cluster, machines


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with machines(tmp_path_factory.mktemp("machines")) as found:
        yield found


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))


@pytest.fixture
def on(two: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setenv("BRAINMRI_CLUSTER", two.address)
    return two


def test_results_come_in_order_and_nothing_is_left(on: Cluster, tmp_path: Path):
    assert list(runtime.in_order(square_of, range(40))) == [n * n for n in range(40)]
    assert list(runtime.in_order(square_of, [])) == []
    assert list((tmp_path / "logs").iterdir()) == []


def test_tasks_run_in_the_studys_folder_with_the_pins_set_before_numpy(on: Cluster, tmp_path: Path):
    (found,) = runtime.in_order(pins, [1])
    assert found == stages.PINS | {"folder": str(tmp_path)}


def test_an_error_on_a_machine_is_the_same_error_here(on: Cluster):
    with pytest.raises(InputError, match=r"^99 is no number$"):
        list(runtime.in_order(square_of, [1, 99, 2]))


def test_few_results_wait_however_many_items_there_are(on: Cluster):
    numbers = Asked(50)
    results = runtime.in_order(square_of, numbers)
    next(results)
    assert len(numbers.asked) <= 6
    results.close()


def test_what_a_killed_worker_did_is_done_again(on: Cluster):
    results = runtime.in_order(slowly, range(14))
    found = [next(results) for _ in range(3)]
    os.kill(on.pids()[0], signal.SIGKILL)
    found += list(results)
    assert [square for square, _ in found] == [n * n for n in range(14)]
    assert len({pid for _, pid in found}) >= 3, "a process was replaced"


def test_a_task_whose_process_ended_runs_again_and_one_that_always_ends_it_is_one_line(on: Cluster, tmp_path: Path):
    marker = str(tmp_path / "done")
    assert list(runtime.in_order(once_fatal, [marker, ""])) == [marker, ""]
    with pytest.raises(InputError, match=r"ended in the middle of a task .*memory") as refused:
        list(runtime.in_order(always_fatal, [1]))
    assert "\n" not in str(refused.value)


def test_a_machine_with_other_code_or_versions_is_named_with_both(on: Cluster, monkeypatch: pytest.MonkeyPatch):
    from stages.shell import cluster

    monkeypatch.setattr(cluster, "identity", lambda: identity() | {"numpy": "1.0"})
    with pytest.raises(InputError, match=r"worker tcp://127\.0\.0\.1:\d+ has numpy [\d.]+, this machine 1\.0: "):
        list(runtime.in_order(square_of, [1]))
    assert cluster_child.differs(identity(), identity()) == ""
    assert "code of stages/" in cluster_child.differs(identity(), identity() | {"code of stages/": "0"})


def test_a_machine_that_does_not_see_the_folder_is_named(on: Cluster, monkeypatch: pytest.MonkeyPatch):
    from stages.shell import cluster_worker

    job = cluster_worker.Job
    monkeypatch.setattr(cluster_worker, "Job", lambda study, folder, env: job(study, "/not/there", env))
    with pytest.raises(InputError, match="does not see /not/there: the study's folder must be shared"):
        list(runtime.in_order(square_of, [1]))


@pytest.mark.parametrize("address", ["127.0.0.1:8786", "cluster", "http://127.0.0.1:1"])
def test_an_address_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, address: str):
    monkeypatch.setenv("BRAINMRI_CLUSTER", address)
    with pytest.raises(InputError, match="expected the address of a Dask scheduler"):
        list(runtime.in_order(square_of, [1]))


def test_a_scheduler_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr("stages.shell.cluster.CONNECT", 1)
        monkeypatch.setenv("BRAINMRI_CLUSTER", f"tcp://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(InputError, match="no Dask scheduler answers at"):
            list(runtime.in_order(square_of, [1]))


def test_a_scheduler_that_goes_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with machines(tmp_path / "machines", 1) as found:
        monkeypatch.setenv("BRAINMRI_CLUSTER", found.address)
        results = runtime.in_order(slowly, range(40))
        next(results)
        os.killpg(found.process.pid, signal.SIGKILL)
        with pytest.raises(InputError, match=r"the Dask scheduler at tcp://.* is gone"):
            list(results)


def test_stages_make_the_same_bytes_on_a_cluster(on: Cluster, tiny_study: Path, tmp_path: Path):
    shutil.copytree(tiny_study, tmp_path / "study")
    for stage in ("verify", "prepare"):
        done = run_stage(stage, tmp_path / "study", BRAINMRI_CLUSTER=on.address)
        assert done.returncode == 0, done.stderr
        assert outputs(stage, tmp_path / "study") == outputs(stage, tiny_study)


def test_the_index_asked_by_a_cluster_finds_the_same_pairs(on: Cluster, tiny_study: Path, tmp_path: Path):
    from conftest import set_params

    found = []
    for name, address in (("here", ""), ("there", on.address)):
        shutil.copytree(tiny_study, tmp_path / name)
        set_params(tmp_path / name, **{"verify.twins.exact_up_to": 0})
        done = run_stage("verify", tmp_path / name, BRAINMRI_CLUSTER=address)
        assert done.returncode == 0, done.stderr
        found.append(outputs("verify", tmp_path / name))
    assert found[0] == found[1]


def test_without_the_variable_nothing_of_dask_is_loaded():
    import subprocess

    code = (
        "from stages import runtime; from working import square_of; import sys\n"
        "if __name__ == '__main__':\n"
        "    assert list(runtime.in_order(square_of, [1, 2])) == [1, 4]\n"
        "    print(sorted({'dask', 'distributed'} & {*sys.modules}))"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    assert subprocess.check_output([sys.executable, "-c", code], text=True, env=environment) == "[]\n"
