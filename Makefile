# Each target works on a machine that has only Python >= 3.11, git and make: the environment is made in .venv first.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: install quickstart test test-all lint format clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(INSTALLED)

# Trains on the sample in data/, tests on held-out frames, writes a report and runs 500 steps of molecular dynamics.
quickstart: $(INSTALLED)
	$(BIN)/mlip quickstart

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Two test processes of one thread each use two cores better than one process of two threads.
test: lint
	$(BIN)/pytest -n 2 -m 'not slow'

test-all: lint
	$(BIN)/pytest -n 2

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
