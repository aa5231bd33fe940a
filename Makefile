# Two commands for people: `make repro` re-makes the default study, `make test` runs the tests. Each makes .venv first.
# `make faults` breaks everything at length, half an hour, and writes docs/reliability.md.

PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: repro test faults lint proof env

repro: .venv/made
	dvc repro
	brainmri record
	brainmri show

# two at a time, each file's tests in one process, in order: those that hold commands to a limit of memory come first
test: .venv/made
	pytest -n 2 --dist loadfile --no-loadscope-reorder

faults: .venv/made
	BRAINMRI_KILLS=25 pytest -m fault --reliability=docs/reliability.md

lint: .venv/made
	ruff check .
	ruff format --check .
	mypy

# every stage again from nothing, each output's hash held against the committed one
proof: .venv/made
	brainmri replay HEAD

env: .venv/made

# the versions and hashes of the lock files, whatever index pip is set up for; then the project itself, editable
.venv/made: requirements.lock requirements-extra.lock pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --require-hashes -r requirements.lock -r requirements-extra.lock
	.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@
