# `make demo` and `make test` need Python 3.11 or newer and nothing else; `make help` lists the rest.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
INSTALL := $(PIP) install --require-hashes --no-deps
# Built with the hatchling of the lock, so that nothing is fetched beside the locked packages.
PROJECT := $(PIP) install --no-deps --no-build-isolation --editable .
LOCK   := --universal --python-version 3.11 --generate-hashes --no-header --quiet \
          --no-emit-index-url --no-emit-find-links

# One more for every two processors: many tests wait for stations and clocks most of the time.
WORKERS = $(shell $(PYTHON) -c "import os; print(min((os.cpu_count() or 1) * 3 // 2, 16))")

.DEFAULT_GOAL := help
.PHONY: help demo test conformance chaos storm fuzz fuzz-planner lint bench bench-storm bench-memory bench-nodes bench-quick bench-planner bench-week wheel lock upgrade clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*  ## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: $(VENV)/runtime.stamp  ## set up, then a whole day of a depot with simulated stations
	@$(BIN)/tasco demo $(ARGS)

test: lint  ## set up, then style, types and all tests
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

conformance: $(VENV)/dev.stamp  ## run the conformance cases, print the table, write docs/conformance.md
	@$(BIN)/python -m tests.conformance
	@$(BIN)/python -m pytest -q -n auto --conformance $(ARGS)

chaos: $(VENV)/dev.stamp  ## kill the server KILLS times (50) under load; nothing may be lost
	@TASCO_TEST_KILLS=$(or $(KILLS),50) $(BIN)/python -m pytest -q -s tests/scenarios/test_kills.py $(ARGS)

storm: $(VENV)/dev.stamp  ## STATIONS (10000) come back within seconds of a restart; all sessions whole
	@ulimit -n $$(ulimit -H -n); TASCO_TEST_STATIONS=$(or $(STATIONS),10000) \
	    $(BIN)/python -m pytest -q -s -k x09 tests/conformance/test_order_time_outage.py $(ARGS)

fuzz: $(VENV)/dev.stamp  ## broken messages of every version into a running system, FUZZ_S seconds (600)
	@TASCO_TEST_FUZZ_S=$(or $(FUZZ_S),600) $(BIN)/python -m pytest -q -s tests/fuzz $(ARGS)

fuzz-planner: $(VENV)/dev.stamp  ## plan SITES random sites (10000): no limit may be passed in any
	@TASCO_TEST_SITES=$(or $(SITES),10000) $(BIN)/python -m pytest -q -n auto tests/planning/test_fuzz.py $(ARGS)

lint: $(VENV)/dev.stamp  ## style and types only
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: $(VENV)/dev.stamp  ## CPU per message against an echo and a naive central system
	@$(BIN)/python benchmarks/bench.py $(ARGS)
	@$(BIN)/python benchmarks/storm.py
	@$(BIN)/python benchmarks/memory.py

bench-storm: $(VENV)/dev.stamp  ## what it costs when 2,000 stations come back at once
	@$(BIN)/python benchmarks/storm.py $(ARGS)

bench-memory: $(VENV)/dev.stamp  ## what the process, an idle connection and a known station hold
	@$(BIN)/python benchmarks/memory.py $(ARGS)

bench-nodes: $(VENV)/dev.stamp  ## what a message costs through a gateway node, NATS and the centre
	@$(BIN)/python benchmarks/nodes.py $(ARGS)

bench-quick: $(VENV)/dev.stamp  ## the same in a minute, with generous limits
	@$(BIN)/python benchmarks/bench.py --quick $(ARGS)

bench-planner: $(VENV)/bench-planner.stamp  ## the planner against its peers in the simulator acnportal
	@$(BIN)/python benchmarks/acn.py $(ARGS)

# The days of August 2015 are lived through as those of the same week of 2024, whose prices are kept.
bench-week: $(VENV)/runtime.stamp  ## a real week of workplace sessions, every strategy, four limits
	@$(BIN)/tasco replay-day --sessions workplace_us --from 2015-08-17 --days 7 \
	    --as-from 2024-08-19 --shift-h -6 --time-zone Europe/Copenhagen --strategy all \
	    --limit-kw 15,20,30,60 --tariff dk1_prices_2024 --carbon dk1_co2_2024 $(ARGS)

wheel: $(VENV)/dev.stamp  ## dist/tasco-*.whl
	@$(BIN)/python -m hatchling build -t wheel

# uv makes one lock for every platform and Python; it is needed here only.
lock: build/lock/bin/uv  ## write requirements*.lock anew, keeping versions that still fit
	@$< pip compile pyproject.toml --group build $(LOCK) $(UPGRADE) -o requirements.lock
	@$< pip compile pyproject.toml --group dev --group bench $(LOCK) $(UPGRADE) \
	    -c requirements.lock -o requirements-dev.lock
	@$< pip compile pyproject.toml --group bench-planner $(LOCK) $(UPGRADE) \
	    -c requirements.lock -o requirements-bench-planner.lock

upgrade:  ## as lock, with the newest versions
	@$(MAKE) lock UPGRADE=--upgrade

build/lock/bin/uv:
	@$(PYTHON) -m venv build/lock
	@build/lock/bin/python -m pip --disable-pip-version-check --quiet install uv

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "$(PYTHON) is $$($(PYTHON) --version 2>&1); TASCO needs Python 3.11 or newer:" \
	        "make PYTHON=python3.12, say" >&2; exit 1; }
	@echo "setting up $(VENV) (once)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/runtime.stamp: requirements.lock pyproject.toml | $(VENV)/bin/python
	@$(INSTALL) -r requirements.lock
	@$(PROJECT)
	@touch $@

$(VENV)/dev.stamp: requirements-dev.lock pyproject.toml | $(VENV)/bin/python
	@$(INSTALL) -r requirements-dev.lock
	@$(PROJECT)
	@touch $@ $(VENV)/runtime.stamp

$(VENV)/bench-planner.stamp: requirements-bench-planner.lock $(VENV)/dev.stamp
	@$(INSTALL) -r requirements-bench-planner.lock
	@touch $@

clean:  ## remove the virtual environment and everything that was built
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
