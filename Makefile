# Two commands matter: `make run` and `make test`. Every target sets up .venv/ by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-by-make
TOOLS := $(CURDIR)/.tools
export SIMNODE_TOOLS ?= $(TOOLS)
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup run test check unit tools bench fuzz clean

help: ## what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

setup: $(STAMP) ## the environment in .venv/, exactly as constraints.txt pins it

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group dev --editable .
	touch $@

run: setup ## the main job: what each response mode costs in memory, as a table and a report
	$(BIN)/simnode run quickstart

check: setup ## format, lint, layers, types and the unit tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/unit

test: check ## check, then the property, interop, integration and chaos tests
	$(BIN)/python -m pytest -q tests/property tests/fuzz tests/interop tests/integration tests/chaos

tools: setup ## what only some tests need: Debian packages, crates, npm packages
	$(BIN)/python -m tests.tools

bench: setup ## the figures of tests/bench
	$(BIN)/python -m tests.bench
	$(BIN)/python -m tests.bench.codecs

fuzz: setup ## five minutes of coverage-guided fuzzing
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group fuzz
	$(BIN)/python -m tests.fuzz.run --seconds 300

clean: ## removes the environment and what the tools built
	rm -rf $(VENV) $(TOOLS)
