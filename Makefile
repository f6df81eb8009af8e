# make demo    the ensemble at work, on this machine
# make test    every test
# The rest is for work on the package itself. PYTHON chooses the interpreter: make test PYTHON=python3.12

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

# Two stamps: the demo needs only what the package needs, everything else needs the tools too.
# Both are newer than pyproject.toml, so that a changed dependency is installed.
RUNTIME := $(VENV)/.runtime
DEV     := $(VENV)/.dev

PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint bench sim clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile
	@echo "make setup | lint | bench | sim | clean"

setup: $(DEV)

demo: $(RUNTIME)
	$(BIN)/python -m concoord_ray.demo

test: $(DEV)
	$(BIN)/python -m pytest $(ARGS)

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(DEV)
	$(BIN)/python -m tests.bench $(ARGS)

sim: $(DEV)
	$(BIN)/python -m tests.sim $(ARGS)

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .grimp_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v <= (3, 13) else \
	  "%s is Python %d.%d; concoord_ray needs 3.10 to 3.13. Name one: make PYTHON=python3.11" % ((sys.executable,) + v))'
	$(PYTHON) -m venv $(VENV)

# Editable: what is in the tree is what runs, in this process and in the workers that Ray starts.
$(RUNTIME): pyproject.toml | $(BIN)/python
	$(PIP) --editable .
	@touch $@

$(DEV): pyproject.toml | $(BIN)/python
	$(PIP) --editable '.[dev]'
	@touch $@ $(RUNTIME)
