# Frostline. On a fresh machine: `make demo`, or `make test`. Both do all the set-up.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Which Python to make .venv with; empty: the newest from 3.11 to 3.14 that works.
PYTHON ?=
EXTRAS := train,report,audit,export,onnx,page,dev
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The real data and weights that tests marked "real" read; see docs/evaluation.md.
SHARED := ../shared
SOURCES := src tests bench scripts docs app.py

.PHONY: help setup demo example-report test lint format fast-tests test-install test-slow test-real lock bench docs clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

setup: $(STAMP) ## Make .venv and install Frostline into it (done once, and again when the requirements change)

$(STAMP): pyproject.toml requirements.lock scripts/setup.sh
	@bash scripts/setup.sh "$(PYTHON)" $(VENV) "$(EXTRAS)"
	@touch $@

demo: setup ## Train on handwritten digits, judge, predict and compare: the whole path, offline
	@bash scripts/demo.sh

example-report: setup ## Write docs/example-report anew: three small classifiers of handwritten digits, a minute
	@OMP_NUM_THREADS=1 $(BIN)/python scripts/example_report.py docs/example-report

test: lint fast-tests ## Lint, format, types and the fast tests

lint: setup ## Lint, format and types
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/mypy

format: setup ## Put the code into its form
	@$(BIN)/ruff check --fix $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

# One thread a process: two processes share the cores, and would otherwise wait for one another.
fast-tests: setup ## The fast tests alone
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

test-install: setup ## Install the base package alone in a fresh environment, and use it there
	@$(BIN)/python -m pytest -m install

test-slow: setup ## Killing training at random moments, and every fine-tuning recipe from random weights; minutes
	@$(BIN)/python -m pytest -m slow

test-real: setup ## Tests on the real data and weights in ../shared; minutes
	@if [ -d $(SHARED) ]; then $(BIN)/python -m pytest -m real; \
	else echo "Skipped: there is no $(SHARED) with the real data and weights."; fi

lock: setup ## Take the newest allowed versions into .venv and write them to requirements.lock
	@$(BIN)/python -m pip install --upgrade --upgrade-strategy eager --editable ".[$(EXTRAS)]"
	@$(BIN)/python scripts/lock.py $(EXTRAS) > requirements.lock.new
	@mv requirements.lock.new requirements.lock
	@touch $(STAMP)

bench: setup ## Measure speed against peers (they get an environment of their own; see docs/evaluation.md)
	@for bench in bench/features.py bench/train_cnn.py; do $(BIN)/python $$bench; done

docs: setup ## Write docs/cli.md from the commands' own help
	@$(BIN)/python scripts/cli_docs.py docs/cli.md

clean: ## Delete what the build, the tests and the demo made; .venv too
	@rm -rf $(VENV) build dist runs/demo .pytest_cache .ruff_cache .mypy_cache .hypothesis
	@find src tests bench scripts -name __pycache__ -type d -prune -exec rm -rf {} +
