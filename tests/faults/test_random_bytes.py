"""Whole and damaged files with random damage, at the doors that fuzz.py fuzzes at length."""

from __future__ import annotations

import pytest
from faulting import in_time
from fuzz import seeds, targets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.files import InputError

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


@pytest.mark.fault("bytes at random (hypothesis)")
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
        try:
            TARGETS[name](bytes(base))
        except InputError as error:
            assert "\n" not in str(error) and len(str(error)) < 500

    with in_time(120):
        damaged()
    record_property("cases", EXAMPLES)
