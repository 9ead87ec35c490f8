# The commands of the README. Each makes .venv first where it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TESTED := $(VENV)/.installed-test

.PHONY: demo test test-slow check golden clean

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; run make PYTHON=python3.x")'
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --progress-bar off -c constraints.txt -e .
	touch $@

$(TESTED): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --progress-bar off -c constraints.txt -e '.[test]'
	touch $@

demo: $(INSTALLED)
	$(BIN)/ddpm-bench run suites/digits_quickstart.toml
	$(BIN)/python -m benchmarks.quickstart_learns

test: $(TESTED)
	$(BIN)/python -m pytest -q -n auto --dist loadgroup -m "not slow and not gpu and not network"

test-slow: $(TESTED)
	$(BIN)/python -m pytest -q -m "slow and not gpu and not network"

check: $(TESTED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

golden: $(TESTED)
	$(BIN)/python -m tests.golden.write

clean:
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
