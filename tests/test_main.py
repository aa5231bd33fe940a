"""`brainmri` itself, before any command."""

from __future__ import annotations

import importlib.metadata

import pytest

from commands.__main__ import COMMANDS, main


def test_alone_it_prints_its_help(capsys: pytest.CaptureFixture[str]):
    assert main([]) == 0
    found = capsys.readouterr()
    assert all(name.replace("_", "-") in found.out for name in COMMANDS) and found.err == ""


def test_it_says_its_version(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"brainmri {importlib.metadata.version('brainmri')}\n"


def test_a_clone_that_was_not_installed_says_so_in_place_of_a_version(capsys, monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(SystemExit):
        main(["--version"])
    assert "not installed" in capsys.readouterr().out


def test_a_command_that_is_none_is_still_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["bake"])
    assert ended.value.code == 2 and "invalid choice: 'bake'" in capsys.readouterr().err
