# Two commands do everything on a machine that has only Python 3.11 and make: `make demo` and `make test`.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help demo test lint types layers tests slow docs dist bench clean

help:
	@echo "make demo   install, fetch the model, fine-tune it on a made-up help desk, audit it, print where the report lies"
	@echo "make test   install the dev extra, lint, types, layers, tests"
	@echo "make slow   the tests that need the real model (minutes)"
	@echo "make docs   the site, into build/site; any warning is an error"
	@echo "make dist   the wheel and the source archive, into dist/"
	@echo "make bench  the speed figures, into benchmarks/results/"

.venv/.made:
	$(PYTHON) -m venv .venv
	@touch $@

.venv/.installed: .venv/.made pyproject.toml constraints.txt
	$(PIP) install -q -c constraints.txt -e .
	@touch $@

.venv/.dev: .venv/.installed
	$(PIP) install -q -c constraints.txt -e ".[dev,pii]"
	@touch $@

demo: .venv/.installed
	$(BIN)/reticent fetch-model smollm2-135m
	$(BIN)/reticent demo --out runs/demo

# Types take one core for half a minute, which tests leave free while they are collected and at their end.
test: .venv/.dev
	$(MAKE) --jobs 4 lint types layers tests

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.dev
	$(BIN)/mypy

layers: .venv/.dev
	$(BIN)/lint-imports --no-cache

tests: .venv/.dev
	$(BIN)/pytest -n auto --dist loadfile

slow: .venv/.dev
	$(BIN)/reticent fetch-model smollm2-135m
	$(BIN)/pytest --slow -m slow

docs: .venv/.dev
	$(PIP) install -q -c constraints.txt -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

dist: .venv/.dev
	$(PIP) install -q build
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python .ci/check_wheel.py dist

bench: .venv/.dev
	$(PIP) install -q -c constraints.txt -e ".[bench]"
	$(BIN)/reticent fetch-model smollm2-135m
	$(BIN)/python benchmarks/score_throughput.py --json benchmarks/results/score_throughput.json
	$(BIN)/python benchmarks/dp_step.py --json benchmarks/results/dp_step.json
	$(BIN)/python benchmarks/dp_faults.py --json benchmarks/results/dp_faults.json
	$(BIN)/python benchmarks/dp_setup.py --json benchmarks/results/dp_setup.json
	$(BIN)/python benchmarks/dp_families.py --json benchmarks/results/dp_families.json --markdown
	$(BIN)/python benchmarks/attack_speed.py --json benchmarks/results/attack_speed.json
	$(BIN)/python benchmarks/import_times.py --json benchmarks/results/import_times.json

clean:
	rm -rf .venv runs build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
