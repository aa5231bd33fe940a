"""What surrounds a stage: workers, locks, threads, the line that a person reads, and dying with dvc."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from working import Asked, square_of

from stages import runtime
from stages.shell.errors import InputError
from stages.shell.locks import only_one
from stages.shell.running import run


def python(code: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"} | environment,
    )


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def ends(pid: int, seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    return not alive(pid)


@pytest.mark.parametrize("count", ["1", "2", "5"])
def test_results_come_in_order_whatever_the_number_of_workers(monkeypatch, count: str):
    monkeypatch.setenv("BRAINMRI_WORKERS", count)
    assert list(runtime.in_order(square_of, range(40))) == [n * n for n in range(40)]
    assert list(runtime.in_order(square_of, [])) == []


@pytest.mark.parametrize("count", ["1", "2"])
def test_an_error_in_a_worker_is_the_same_error_here(monkeypatch, count: str):
    monkeypatch.setenv("BRAINMRI_WORKERS", count)
    with pytest.raises(InputError, match="99 is no number"):
        list(runtime.in_order(square_of, [1, 99, 2]))


def test_few_results_wait_however_many_items_there_are(monkeypatch):
    monkeypatch.setenv("BRAINMRI_WORKERS", "2")
    numbers = Asked(50)
    results = runtime.in_order(square_of, numbers)
    next(results)
    assert len(numbers.asked) <= 6
    results.close()


@pytest.mark.parametrize("wrong", ["0", "-1", "many", "1.5", "", "257"])
def test_a_wrong_number_of_workers_is_refused(monkeypatch, wrong: str):
    monkeypatch.setenv("BRAINMRI_WORKERS", wrong)
    with pytest.raises(InputError, match="BRAINMRI_WORKERS"):
        runtime.workers()


def test_workers_end_when_their_owner_is_killed(tmp_path: Path):
    code = (
        "import os, time\nfrom stages import runtime\nfrom working import own_pid\n"
        "if __name__ == '__main__':\n    for pid in runtime.in_order(own_pid, range(10000)): print(pid, flush=True)"
    )
    script = tmp_path / "owner.py"
    script.write_text(code)
    owner = python(f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')", BRAINMRI_WORKERS="2")
    assert owner.stdout is not None and owner.stderr is not None
    pids = {int(owner.stdout.readline()) for _ in range(30)}
    owner.kill()
    owner.wait()
    owner.stdout.close()
    owner.stderr.close()
    assert pids and os.getpid() not in pids
    assert all(ends(pid) for pid in pids)


def test_a_mistake_is_one_line_and_exit_status_1(capsys):
    def main() -> None:
        raise InputError("found this, expected that")

    with pytest.raises(SystemExit) as end:
        run("prepare", main)
    assert end.value.code == "prepare: found this, expected that"


@pytest.mark.parametrize("number", [28, 13, 30, 27])
def test_a_full_or_closed_disk_is_one_line(number: int):
    def main() -> None:
        raise OSError(number, os.strerror(number), "data/prepared")

    with pytest.raises(SystemExit) as end:
        run("prepare", main)
    assert "cannot write at data/prepared" in str(end.value.code) and "\n" not in str(end.value.code)


def test_another_error_keeps_its_traceback():
    def main() -> None:
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        run("prepare", main)


def test_a_lock_is_held_by_one_and_dropped_with_its_process(tmp_path: Path):
    lock = tmp_path / "logs" / "a.lock"
    holder = python(
        f"import time\nfrom stages.shell.locks import only_one\n"
        f"with only_one({str(lock)!r}): print('held', flush=True); time.sleep(60)"
    )
    assert holder.stdout is not None and holder.stderr is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(InputError, match="another run holds"), only_one(lock):
        pass
    holder.kill()
    holder.wait()
    holder.stdout.close()
    holder.stderr.close()
    with only_one(lock):
        pass


def test_the_file_of_a_lock_goes_with_it_also_where_the_block_fails(tmp_path: Path):
    lock = tmp_path / "logs" / "a.lock"
    with only_one(lock):
        assert lock.exists()
    with pytest.raises(ZeroDivisionError), only_one(lock):
        raise ZeroDivisionError
    with pytest.raises(InputError), only_one(lock), only_one(lock, seconds=0):
        pass
    assert list((tmp_path / "logs").iterdir()) == []


def test_a_lock_file_removed_between_opening_and_locking_locks_nothing(tmp_path: Path, monkeypatch):
    lock, flock = tmp_path / "a.lock", fcntl.flock
    first = only_one(lock)
    first.__enter__()

    def after_the_first_has_gone(*words: object) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        first.__exit__(None, None, None)
        flock(*words)

    monkeypatch.setattr(fcntl, "flock", after_the_first_has_gone)
    with only_one(lock):
        assert lock.exists(), "what is held is a file that nobody else will ever open"
        with pytest.raises(InputError, match="another run holds"), only_one(lock, seconds=0):
            pass


def test_two_processes_that_take_turns_at_a_lock_are_never_in_it_together(tmp_path: Path):
    turns = (
        f"import os, time\nfrom stages.shell.locks import only_one\nfolder = {str(tmp_path)!r}\n"
        "time.sleep = lambda seconds: None\n"  # so that they meet as often as can be
        "for _ in range(3000):\n"
        "    with only_one(folder + '/a.lock', seconds=60):\n"
        "        os.close(os.open(folder + '/inside', os.O_CREAT | os.O_EXCL))\n"
        "        os.unlink(folder + '/inside')\n"
    )
    for process in [python(turns) for _ in range(2)]:
        _, error = process.communicate(timeout=100)
        assert process.returncode == 0, error
    assert sorted(path.name for path in tmp_path.iterdir()) == []


def test_worker_processes_do_not_keep_a_lock_whose_owner_was_killed(tmp_path: Path):
    lock = tmp_path / "a.lock"
    script = tmp_path / "owner.py"
    script.write_text(
        "from stages import runtime\nfrom stages.shell.locks import only_one\nfrom working import own_pid\n"
        "if __name__ == '__main__':\n"
        f"    with only_one({str(lock)!r}):\n"
        "        for pid in runtime.in_order(own_pid, range(10000)): print(pid, flush=True)"
    )
    owner = python(f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')", BRAINMRI_WORKERS="2")
    assert owner.stdout is not None and owner.stderr is not None
    owner.stdout.readline()
    owner.kill()
    owner.wait()
    owner.stdout.close()
    owner.stderr.close()
    with only_one(lock):
        pass


@pytest.mark.parametrize("killed", ["dvc", "shell"])
def test_a_stage_ends_when_dvc_or_its_shell_is_killed(tmp_path: Path, killed: str):
    stage = tmp_path / "stage.py"
    stage.write_text(
        "import os, time\nfrom stages.shell.running import run\n"
        "def main():\n    print(os.getpid(), os.getppid(), flush=True)\n    time.sleep(60)\n"
        "run('train', main)\n"
    )
    command = f"{sys.executable} {stage} stages.train; true"  # `; true` keeps the shell from becoming the stage
    dvc = python(f"import subprocess; subprocess.run({command!r}, shell=True)", DVC_ROOT=str(tmp_path))
    assert dvc.stdout is not None and dvc.stderr is not None
    pid, shell = map(int, dvc.stdout.readline().split())
    time.sleep(0.5)
    assert alive(pid) and shell != dvc.pid
    os.kill(dvc.pid if killed == "dvc" else shell, signal.SIGKILL)
    assert ends(pid)
    dvc.wait()
    dvc.stdout.close()
    dvc.stderr.close()


@pytest.mark.parametrize("through", [["bash", "--noprofile", "--norc", "-c"], ["sh", "-c"]])
def test_a_stage_outlives_the_terminal_that_started_dvc(tmp_path: Path, through: list[str]):
    """As with `nohup dvc repro &`; bash becomes the stage that it is given, so that DVC is the stage's parent."""
    if not shutil.which(through[0]):
        pytest.skip(f"no {through[0]} here")
    stage, dvc, out = tmp_path / "stage.py", tmp_path / "dvc.py", tmp_path / "out"
    stage.write_text(
        "import time\nfrom pathlib import Path\nimport stages\n"
        f"print('begun', flush=True)\ntime.sleep(1.5)\nPath({str(out)!r}).write_text('done')\n"
    )
    dvc.write_text(f"import subprocess\nsubprocess.run([*{through}, 'A=1 {sys.executable} {stage} stages.train'])\n")
    terminal = python(
        f"import subprocess, sys; p = subprocess.Popen([sys.executable, {str(dvc)!r}], stdout=subprocess.PIPE); "
        "p.stdout.readline()",
        DVC_ROOT=str(tmp_path),
    )
    terminal.communicate(timeout=30)
    end = time.monotonic() + 20
    while not out.is_file() and time.monotonic() < end:
        time.sleep(0.1)
    assert out.read_text() == "done"


@pytest.mark.parametrize("alive_still", [True, False])
def test_a_stage_whose_dvc_died_before_it_could_watch_does_nothing(tmp_path: Path, alive_still: bool):
    gone = subprocess.Popen(["true"])
    gone.wait()
    lock = tmp_path / ".dvc/tmp/rwlock"
    lock.parent.mkdir(parents=True)
    holder = os.getpid() if alive_still else gone.pid
    lock.write_text(json.dumps({"write": {"/data/raw": {"pid": holder, "cmd": "dvc repro"}}, "read": {}}))
    code = "import sys; sys.orig_argv.append('stages.train'); import stages; print('ran')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT), "DVC_ROOT": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == ((0, "ran\n") if alive_still else (-signal.SIGKILL, ""))


def test_outside_dvc_a_stage_outlives_its_parent(tmp_path: Path):
    environment = {key: value for key, value in os.environ.items() if key != "DVC_ROOT"}
    code = "import time\nfrom stages.shell.running import run\nrun('train', lambda: time.sleep(1) or print('done'))"
    done = subprocess.run(
        ["sh", "-c", f'{sys.executable} -c "{code}" > {tmp_path}/out &'],
        env=environment | {"PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert done.returncode == 0
    end = time.monotonic() + 20
    while not ((tmp_path / "out").is_file() and (tmp_path / "out").read_text()) and time.monotonic() < end:
        time.sleep(0.1)
    assert (tmp_path / "out").read_text() == "done\n"


def test_draws_after_seeding_a_step_do_not_depend_on_earlier_draws():
    runtime.seed_step(7, 3, 0, 5)
    first = torch.rand(4)
    torch.rand(1000)
    runtime.seed_step(7, 3, 0, 5)
    assert torch.equal(torch.rand(4), first)
    for other in [(8, 3, 0, 5), (7, 3, 1, 5), (7, 3, 0, 6)]:
        runtime.seed_step(*other)
        assert not torch.equal(torch.rand(4), first)


def test_as_many_threads_as_asked_for_also_on_fewer_cores():
    before = torch.get_num_threads()
    try:
        runtime.limit_threads(7)
        assert torch.get_num_threads() == 7
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_refused_and_never_replaced():
    with pytest.raises(InputError, match="device = 'cuda': no usable NVIDIA GPU") as error:
        runtime.device("cuda")
    assert "\n" not in str(error.value)


def test_importing_stages_after_numpy_without_pins_is_an_error():
    environment = {key: value for key, value in os.environ.items() if not key.endswith("_MAX_CPU_ISA")}
    done = subprocess.run(
        [sys.executable, "-c", "import numpy, stages"],
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert "numpy was imported before `stages`" in done.stderr
    pinned = "import stages, os; print(os.environ['ONEDNN_MAX_CPU_ISA'])"
    done = subprocess.run(
        [sys.executable, "-c", pinned], env=environment | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.stdout == "AVX2\n"


@pytest.mark.parametrize("name", ["OMP_DYNAMIC", "OMP_THREAD_LIMIT", "MKL_DYNAMIC", "NVIDIA_TF32_OVERRIDE"])
def test_what_would_change_threads_or_precision_unseen_is_cleared(name: str):
    process = python(f"import os, stages; print({name!r} in os.environ)", **{name: "1"})
    assert process.communicate() == ("False\n", "")


def test_a_limit_of_openmp_changes_no_sum():
    code = "import stages, torch; torch.set_num_threads(2); print(torch.linspace(0, 1, 99999).sum().item().hex())"
    said = {python(code, **limit).communicate()[0] for limit in ({}, {"OMP_THREAD_LIMIT": "1"})}
    assert len(said) == 1 and said != {""}


@pytest.mark.parametrize(("precision", "kernels"), [("fp32", "AVX2"), ("bf16", "DEFAULT")])
def test_kernels_are_pinned_to_avx2_but_for_bf16_which_has_none_there(monkeypatch, precision, kernels):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    before = torch.get_num_threads()
    runtime.exact(before, precision)
    assert os.environ["ONEDNN_MAX_CPU_ISA"] == kernels
    assert torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.benchmark


def test_a_folder_for_temporary_files_that_no_socket_fits_into_is_one_line(tmp_path: Path):
    far = tmp_path / ("x" * 100)
    far.mkdir()
    code = "from stages import runtime; runtime.Processes(1)"
    done = subprocess.run(
        [sys.executable, "-c", f"from stages.shell.running import run; run('verify', lambda: exec({code!r}))"],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(far)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(f"verify: {far}: AF_UNIX path too long") and "set TMPDIR" in done.stderr
