# Everything that is done with this project, by people and by CI.

SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes

.DEFAULT_GOAL := help
.PHONY: help install develop demo sync-demo test chaos storm lint format openapi lock clean

help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-12s %s\n", $$1, $$2}'

install: $(VENV)/installed ## Make the environment with what the service needs

develop: $(VENV)/developed ## Add what tests and linters need

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.x")'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/installed: requirements.lock pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV)"
	@$(PIP) -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/developed: requirements-dev.lock $(VENV)/installed
	@echo "installing what tests and linters need"
	@$(PIP) -r requirements-dev.lock
	@touch $@

demo: install ## Post documents into a simulated Odoo while things go wrong (ARGS="--kind physical_receipt --keep")
	@$(BIN)/eclusa demo $(ARGS)

sync-demo: install ## Mirror a simulated Odoo, change it, and compare every row (ARGS="--lines 20000")
	@$(BIN)/eclusa sync demo $(ARGS)

test: develop ## Run all tests (ARGS="-k name" for some)
	@$(BIN)/python -m pytest -n auto --dist loadgroup $(ARGS)

chaos: develop ## Kill, pause and restart at random (ARGS="--seed 1 --schedules 300")
	@$(BIN)/python -m tests.chaos $(ARGS)

storm: develop ## Ask one API process for 1,000 postings a second (ARGS="--rate 2000 --seconds 5")
	@$(BIN)/python benchmarks/storm.py $(ARGS)

lint: develop ## Style, types, layers, and whether openapi.json is current
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/eclusa openapi --check openapi.json

format: develop ## Format the code and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

openapi: develop ## Write openapi.json
	$(BIN)/eclusa openapi > openapi.json

lock: ## Pin the dependencies again, with hashes (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --extra build pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --extra dev -c requirements.lock pyproject.toml -o requirements-dev.lock

clean: ## Remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
