# make demo       the whole pipeline on the embedded demo (about 15 minutes on 2 cores)
# make check-demo what a finished demo must show
# make test       every test that is not slow
# make test-all   every test
# make test-cluster  the SLURM profile on a throwaway cluster on this machine (as root; installs slurm-wlm and munge)
# make check      what .ci/run checks besides the tests: format, lint
SHELL := /bin/bash
PYTHON ?= python3
CORES ?= 2
TEST_PROCESSES ?= 2
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint envs/constraints.txt

.PHONY: demo check-demo test test-all test-cluster check install clean-demo

demo: .venv/installed
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m megabase.alone snakemake --cores $(CORES) $(DEMO_FLAGS)
	@echo "The report is at $(CURDIR)/results/report/index.html"

check-demo: .venv/installed-test
	$(BIN)/python -m pytest -m demo tests/demo $(TEST_FLAGS)

# The networks of the tests are so small that a second thread costs more than it brings: a second process instead.
test: .venv/installed-test
	OMP_NUM_THREADS=1 PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -m "not slow and not demo and not cluster" -n $(TEST_PROCESSES) --dist loadscope --no-loadscope-reorder $(TEST_FLAGS)

test-all: .venv/installed-test
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest $(TEST_FLAGS)

# Where no cluster can be, its tests are skipped, and say why.
test-cluster: .venv/installed-test
	-tests/cluster/install.sh
	OMP_NUM_THREADS=1 PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -m cluster tests/cluster $(TEST_FLAGS)

check: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/snakemake --lint

install: .venv/installed

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed; run make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml envs/constraints.txt
	$(PIP) torch
	$(PIP) --editable .
	@touch $@

.venv/installed-test: .venv/installed
	$(PIP) --editable '.[test]'
	@touch $@
