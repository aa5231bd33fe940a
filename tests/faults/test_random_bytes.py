"""Whole and damaged files with random damage, at the doors that fuzz.py fuzzes at length; and what it kept, again."""

from __future__ import annotations

import pytest
from faulting import in_time
from fuzz import kept, seeds, targets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.shell.errors import InputError

TARGETS = targets()
EXAMPLES = 150


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[bytes]]:
    """Files to begin with, by target."""
    found = {}
    for name in TARGETS:
        folder = tmp_path_factory.mktemp(name)
        seeds(name, folder)
        found[name] = [path.read_bytes() for path in sorted(folder.iterdir())]
    return found


@pytest.mark.fault("bytes at random (hypothesis)", commands=EXAMPLES)
@pytest.mark.parametrize("name", TARGETS)
def test_damage_anywhere_is_a_result_or_one_line(name: str, whole, record_property):
    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def damaged(data: st.DataObject) -> None:
        base = bytearray(data.draw(st.sampled_from(whole[name])))
        for _ in range(data.draw(st.integers(0, 6))):
            if base:
                base[data.draw(st.integers(0, len(base) - 1))] = data.draw(st.integers(0, 255))
        at = data.draw(st.integers(0, len(base)))
        base[at : data.draw(st.integers(at, len(base)))] = data.draw(st.binary(max_size=12))
        given_or_refused(name, bytes(base))

    damaged()
    record_property("cases", EXAMPLES)


@pytest.mark.fault("what fuzzing began with and found")
@pytest.mark.parametrize("name", TARGETS)
def test_the_kept_corpus_and_every_finding_are_a_result_or_one_line(name: str, record_property):
    files = kept(name)
    assert files, f"no files in corpus/{name}: python tests/faults/fuzz.py {name} --seeds"
    for path in files:
        given_or_refused(name, path.read_bytes())
    record_property("cases", len(files))


def given_or_refused(name: str, data: bytes) -> None:
    with in_time():
        try:
            TARGETS[name](data)
        except InputError as error:
            assert "\n" not in str(error) and len(str(error)) < 500
