# The commands of the README. Each makes .venv first where it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TESTED := $(VENV)/.installed-test
# Progress bars for a person (torch is a large download), silence for a log.
QUIET := $(shell test -t 2 || echo --quiet)
INSTALL := $(BIN)/python -m pip install $(QUIET) --disable-pip-version-check -c constraints.txt -e
# These commands use runs/ and reports/ of this folder, wherever others keep theirs.
unexport DDPM_BENCH_RUNS

.PHONY: demo test test-slow check golden clean

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; run make PYTHON=python3.x")'
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing into $(VENV): some minutes the first time"
	$(INSTALL) .
	@touch $@

$(TESTED): $(INSTALLED)
	$(INSTALL) '.[test]'
	@touch $@

demo: $(INSTALLED)
	$(BIN)/ddpm-bench run suites/digits_quickstart.toml
	$(BIN)/python -m benchmarks.quickstart_learns

test: $(TESTED)
	$(BIN)/python -m pytest -q -n auto --dist loadgroup -m "not slow and not gpu and not network"

test-slow: $(TESTED)
	$(BIN)/python -m pytest -q -n auto --dist loadgroup -m "slow and not gpu and not network"

check: $(TESTED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

golden: $(TESTED)
	$(BIN)/python -m tests.golden.write

clean:
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
