"""`brainmri sweep`: which settings, how they are chosen, and whole sweeps over workers that die."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, dvc_environment
from test_dvc import clone, sh  # noqa: F401 - a fixture

from commands.__main__ import main
from commands.sweep import task, workers
from commands.sweep.settings import Namer, Setting, grid
from stages.shell.errors import InputError

NAMED = Namer(ROOT, ".", "0" * 40, "sweep")


def overrides(*words: str) -> list[str]:
    return [str(setting) for setting in grid(words, NAMED)]


def test_settings_are_all_combinations_in_dvcs_grammar():
    assert overrides("lr=1e-3,1e-4", "seed=range(3)") == [
        f"lr={lr} seed={seed}" for lr in ("0.001", "0.0001") for seed in range(3)
    ]
    assert overrides("train.select_best=choice(true,false)", "epochs=5") == [
        "train.select_best=True epochs=5",
        "train.select_best=False epochs=5",
    ]
    assert overrides() == ["as it stands"]


def test_a_setting_is_one_however_it_is_written():
    assert len(grid(["lr=1e-4,0.0001,1.0e-4"], NAMED)) == 1
    (default,) = grid([], NAMED)
    lr = re.search(r"^lr: (\S+)", (ROOT / "params.yaml").read_text(), re.MULTILINE)
    assert lr and grid([f"lr={lr[1]}"], NAMED)[0].name == default.name
    assert Namer(ROOT, ".", "1" * 40, "sweep")([]).name != default.name, "of another commit"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lr=-1"], r"-S lr=-1: lr = -1: input should be greater than 0"),
        (["lrr=1"], r"-S lrr=1: .*lrr"),
        (["lr=range("], r"-S lr=range\("),
        (["lr=glob(*)"], "Glob override"),
        (["other.yaml:lr=1"], r"-S other\.yaml:lr=1: expected a key of params\.yaml"),
    ],
)
def test_what_a_stage_would_refuse_is_refused_before_anything_runs(words: list[str], said: str):
    with pytest.raises(InputError, match=said) as refused:
        grid(words, NAMED)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--workers", "0"], "--workers 0: expected a whole number from 1"),
        (["--name", "a/b"], "--name a/b: expected letters"),
        (["--job", "queue=gpu"], "--job queue=gpu: expected with --batch"),
    ],
)
def test_wrong_options_are_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]):
    assert main(["sweep", "-S", "lr=1", *words]) == 1
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_a_job_has_the_cores_of_an_experiments_threads_and_values_are_yaml_but_for_times():
    words = ["walltime=1-08:00:00", "queue=gpu", 'job_extra_directives=["--gres=gpu:1"]', "worker_extra_args=[--x]"]
    chosen = workers.of_cluster("slurm", 2, words)
    assert (chosen["walltime"], chosen["queue"], chosen["cores"]) == ("1-08:00:00", "gpu", 2)
    assert chosen["job_extra_directives"] == ["--gres=gpu:1"]
    assert chosen["worker_extra_args"] == ["--x", "--nthreads", "1"], "one experiment at a time"
    assert workers.of_cluster("slurm", 2, ["cores=4"])["cores"] == 4
    told = workers.of_cluster("slurm", 2, ["worker_extra_args=--lifetime 3600"])["worker_extra_args"]
    assert told == ["--lifetime", "3600", "--nthreads", "1"]
    for wrong in ("queue", "x=["):
        with pytest.raises(InputError, match=re.escape(f"--job {wrong}: expected ")):
            workers.of_cluster("slurm", 1, [wrong])


def test_dask_jobqueue_makes_such_a_job_of_it():
    slurm = pytest.importorskip("dask_jobqueue.slurm")
    chosen = workers.of_cluster("slurm", 2, ["memory=2GB", 'job_extra_directives=["--gres=gpu:1"]'])
    script = slurm.SLURMJob("tcp://127.0.0.1:1", "one", **chosen).job_script()
    assert "#SBATCH --cpus-per-task=2\n" in script and "#SBATCH --gres=gpu:1\n" in script
    assert re.findall(r"--nthreads (\d+)", script) == ["2", "1"], "click takes the last"


def test_why_an_experiment_failed_is_the_stages_own_line():
    stderr = "train: pillow is not as in requirements.lock: bits may differ\ntrain: out of memory: try half of it\n"
    failed = "ERROR: failed to reproduce 'train@0': failed to run: PYTHONPATH=. python -m stages.train, exited with 1\n"
    assert task.why("", stderr + failed) == "train: out of memory: try half of it"
    assert task.why("", failed) == failed.strip()
    assert (
        task.why("", "warning: x\nfatal: repository '/a' does not exist\n") == "fatal: repository '/a' does not exist"
    )
    assert task.why("", "") == ""


class Pretended:
    """Stands for the Runner: an experiment's loss is a function of its setting."""

    def __init__(self, made: set[str]) -> None:
        self.started: list[str] = []
        self.before, self.place, self.lost = made, self, {}

    def made(self, setting: Setting) -> bool:
        self.lost[setting.name] = float(setting.overrides[0].partition("=")[2])
        return setting.name in self.before

    def start(self, setting: Setting) -> object:
        self.started.append(str(setting))
        return setting

    def arrived(self, settings: list[Setting]) -> None:
        pass

    def ended(self, future: object, setting: Setting) -> tuple[str, str]:
        self.before.add(setting.name)
        return ("train: diverged", "") if self.lost[setting.name] > 9e-3 else ("", "")

    def tell(self, *said: object) -> None:
        pass


WORDS = ["lr=tag(log,interval(1e-5,1e-2))", "epochs=range(4,7)", "train.select_best=true"]


@pytest.mark.parametrize("at_a_time", [1, 3])
def test_a_search_is_a_function_of_its_seed_and_goes_on_where_it_was_interrupted(monkeypatch, capsys, at_a_time: int):
    pytest.importorskip("optuna")
    from commands.sweep import results
    from commands.sweep.search import search

    monkeypatch.setattr(results, "validation", lambda place, name: {"val_loss": abs(place.lost[name] - 3e-4)})
    runs = [Pretended(set()) for _ in range(3)]
    for run, seed in zip(runs, (0, 0, 1), strict=True):
        assert search(run, NAMED, WORDS, 12, "val_loss", seed, at_a_time) == 0
    assert runs[0].started == runs[1].started != runs[2].started
    assert all(re.fullmatch(r"lr=\S+ epochs=[456] train\.select_best=true", each) for each in runs[0].started)
    half = Pretended({NAMED(each.split()).name for each in runs[0].started[:7]})
    search(half, NAMED, WORDS, 12, "val_loss", 0, at_a_time)
    assert half.started == runs[0].started[7:]
    assert capsys.readouterr().out.count("best val_loss of 1") == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [(["lr=1e-3"], "nothing to choose"), (["lr=tag(log,interval(0,1))"], "above 0"), (["lr=interval(2,1)"], "smaller")],
)
def test_a_search_without_a_choice_is_refused(words: list[str], said: str):
    pytest.importorskip("optuna")
    from commands.sweep.search import suggestions

    with pytest.raises(InputError, match=said):
        suggestions(words)


# Whole sweeps

GRID = ("-S", "lr=1e-3,3e-4,1e-4", "-S", "augment.mirror=true,false")


def sweep(folder: Path, *words: str) -> subprocess.Popen[str]:
    """Start the command of the clone's own code."""
    return subprocess.Popen(
        [sys.executable, "-m", "commands", "sweep", *words],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dvc_environment() | {"PYTHONPATH": str(folder), "PYTHONUNBUFFERED": "1"},
    )


def trees(folder: Path, prefix: str) -> dict[str, str]:
    """Return {setting: Git's hash of all that the experiment has in Git}: parameters, metrics, hashes of outputs."""
    found = {}
    for line in sh(folder, "git", "for-each-ref", "--format=%(refname)", "refs/exps").split():
        if line.rpartition("/")[2].startswith(prefix):
            values = sh(folder, "git", "show", f"{line}:params.yaml")
            setting = " ".join(re.findall(r"^ *(?:lr|mirror): (\S+)", values, re.MULTILINE))
            found[setting] = sh(folder, "git", "rev-parse", f"{line}^{{tree}}").strip()
    return found


@pytest.fixture(scope="module")
def bare(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """A bare repository whose commit names a folder as DVC remote, where the outputs of the study lie."""
    pytest.importorskip("distributed")
    store = tmp_path_factory.mktemp("store")
    sh(clone, "dvc", "remote", "add", "-d", "store", str(store))
    sh(clone, "git", "commit", "-qam", "where the outputs lie")
    sh(clone, "dvc", "push")
    sh(clone, "git", "clone", "-q", "--bare", str(clone), str(store / "repository.git"))
    return store / "repository.git"


@pytest.fixture(scope="module")
def one_by_one(bare: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("alone") / "repository"
    sh(folder.parent, "git", "clone", "-q", str(bare), str(folder))
    sh(folder, "dvc", "pull", "-q")
    for lr in ("1e-3", "3e-4", "1e-4"):
        for mirror in ("true", "false"):
            settings = ("-S", f"lr={lr}", "-S", f"augment.mirror={mirror}")
            sh(folder, "dvc", "exp", "run", *settings, "--name", f"alone-{lr}-{mirror}")
            sh(folder, "git", "checkout", "-q", ".")
    return trees(folder, "alone")


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True], ids=["all workers live", "one is killed"])
def test_a_sweep_over_two_workers_is_the_same_as_one_by_one(
    bare: Path, one_by_one: dict[str, str], tmp_path: Path, killed: bool
):
    from machines import machines

    mirror, caller = tmp_path / "mirror.git", tmp_path / "caller"
    sh(tmp_path, "git", "clone", "-q", "--bare", str(bare), str(mirror))
    sh(tmp_path, "git", "clone", "-q", str(mirror), str(caller))
    with machines(tmp_path / "machines") as two:
        process = sweep(caller, *GRID, "--scheduler", two.address)
        assert process.stdout
        lines = []
        for line in process.stdout:
            lines.append(line)
            if killed and len(lines) == 2:
                time.sleep(3)  # into what it does next
                os.kill(two.pids()[0], signal.SIGKILL)
        process.stdout.close()
        assert process.wait() == 0, "".join(lines)
        assert trees(caller, "sweep") == one_by_one and len(one_by_one) == 6, "".join(lines)
        shown = sh(caller, "dvc", "exp", "show", "--csv")
        assert sum(line.startswith("sweep-") for line in shown.splitlines()) == 6
        again = sweep(caller, *GRID, "--scheduler", two.address)
        assert again.communicate()[0].count("made before") == 6
    names = re.findall(r"sweep-[0-9a-f]{8}", "".join(lines))
    sh(caller, "dvc", "exp", "apply", names[0])
    sh(caller, "dvc", "checkout")
    assert (caller / "models/model.safetensors").is_file() and (caller / "data/predictions.csv").is_file()
    sh(caller, sys.executable, "-m", "commands", "compare", names[0], names[1])


@pytest.mark.slow
def test_a_killed_workers_experiment_goes_on_from_its_checkpoint_on_another_and_a_failed_one_stops_none(
    clone: Path,  # noqa: F811
    tmp_path: Path,
):
    """The cache is shared, by which checkpoints can be reached."""
    pytest.importorskip("distributed")
    from machines import machines

    caller = tmp_path / "caller"
    sh(tmp_path, "git", "clone", "-q", str(clone), str(caller))
    cache = clone / ".dvc/cache"
    shutil.rmtree(cache / "checkpoints", ignore_errors=True)
    with machines(tmp_path / "machines") as two:
        words = ("-S", "epochs=8", "-S", "backbone.weights=random,/not/there.safetensors", "--scheduler", two.address)
        process = sweep(caller, *words, "--git", str(caller), "--cache", str(cache))
        until = time.monotonic() + 300
        while not list((cache / "checkpoints").rglob("000002-*.safetensors")):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        for pid in two.pids():
            os.kill(pid, signal.SIGKILL)
        said = process.communicate()[0]
    assert process.returncode == 1
    assert re.search(r"went on from a checkpoint at epoch [3-8]", said), said
    assert re.search(r"FAILED: backbone: .*/not/there\.safetensors", said), said
    assert "1 of 2 experiments are here" in said


@pytest.mark.slow
def test_a_sweep_here_shares_the_cache_is_stopped_and_goes_on(clone: Path):  # noqa: F811
    pytest.importorskip("distributed")
    words = ("-S", "lr=2e-4,4e-4,8e-4", "--workers", "1")
    process = sweep(clone, *words)
    assert process.stdout
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=60)[0]
    assert process.returncode == 130 and "Traceback" not in rest
    again = sweep(clone, *words)
    said = again.communicate()[0]
    assert again.returncode == 0, said
    assert said.splitlines()[0].startswith(first.split()[0]) and "made before" in said.splitlines()[0]
    assert "3 of 3 experiments are here" in said
    assert sh(clone, "git", "status", "--porcelain") == ""
    assert not list(Path("/tmp").glob("brainmri-sweep-*"))


@pytest.mark.slow
def test_optuna_chooses_the_same_settings_twice(clone: Path):  # noqa: F811
    pytest.importorskip("optuna")
    words = ("--search", "3", "-S", "lr=tag(log,interval(1e-4,1e-2))", "--workers", "1", "--name", "chosen")
    first, second = (sweep(clone, *words).communicate()[0] for _ in range(2))
    assert "best val_loss of 3" in first and second.count("made before") == 3
    assert re.findall(r"chosen-\w+", first) == re.findall(r"chosen-\w+", second)


@pytest.mark.slow
def test_jobs_of_a_batch_system_are_workers(clone: Path, tmp_path: Path):  # noqa: F811
    """SLURM's commands are stood in for: `sbatch` runs the script, `scancel` ends it."""
    pytest.importorskip("dask_jobqueue")
    (tmp_path / "sbatch").write_text(
        f"#!/bin/sh\nsetsid sh $1 >{tmp_path}/log 2>&1 &\necho $! >{tmp_path}/pid\necho Submitted batch job $!\n"
    )
    (tmp_path / "scancel").write_text("#!/bin/sh\nfor job; do kill -- -$job; done\n")
    for name in ("sbatch", "scancel"):
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}{os.pathsep}{dvc_environment()['PATH']}", "PYTHONPATH": str(clone)}
    words = ["-S", "lr=2e-3", "--batch", "slurm", "--job", "memory=2GB", "--job", "interface=lo", "--workers", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "commands", "sweep", *words, "--git", str(clone), "--cache", str(clone / ".dvc/cache")],
        cwd=clone,
        text=True,
        capture_output=True,
        env=os.environ | environment,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 experiments are here" in done.stdout
