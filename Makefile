# Thin verbs over the `nova` command and pytest. `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest
# once more against the compiled sidecar: what every request passes through
COMPILED := $(patsubst %,tests/loopback/test_%.py,http1_basic smuggling http2_frames grpc_policies limiter breaker drain reload websocket)

.DEFAULT_GOAL := help
.PHONY: help venv demo demo-backend demo-down test test-unit test-loopback test-cluster test-e2e lint bench bench-operator bench-soak bench-data protos crds images chart clean

help:  ## list the verbs
	@echo "usage: make VERB"
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Debian and Ubuntu ship venv as a package of its own; with root it is installed, without it the message says so.
$(STAMP): pyproject.toml $(wildcard services/protos/nova/*/*/*.proto)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "make: $(PYTHON) is older than 3.11; run make PYTHON=python3.11 or newer" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "installing python3-venv"; \
			apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null; \
		else echo "make: $(PYTHON) has no venv module; install the package python3-venv" >&2; exit 2; fi; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the development environment into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

venv: $(STAMP)  ## the development environment, in .venv

demo: $(STAMP)  ## bring up a cluster, install Nova, run the examples and show what they gain
	@$(BIN)/nova demo

demo-backend: $(STAMP)  ## the reference backend with PostgreSQL, Redis and Kafka on the same cluster, and a walk through it
	@$(BIN)/nova demo backend

demo-down: $(STAMP)  ## remove the demo and its cluster
	@$(BIN)/nova demo down

test: lint $(STAMP)  ## every test: lint, unit, loopback, cluster, end to end
	@$(BIN)/nova cluster prepare
	@# what the last two lines need is built meanwhile, with the processor time that the tests leave: each session has a
	@# niceness of its own where the kernel groups tasks (sched(7), autogroup)
	@mkdir -p build; setsid nice -n 19 sh -c '{ echo 19 >/proc/self/autogroup; } 2>/dev/null; exec "$$@"' - \
		$(BIN)/python -m tests.ahead >build/ahead.log 2>&1 & ahead=$$!; \
	trap 'kill -- -'$$ahead' 2>/dev/null || true' EXIT; echo "building ahead, see build/ahead.log"; set -x; \
	$(PYTEST) tests/unit tests/fuzz tests/loopback tests/oracles tests/cluster tests/bench -m 'not alone' -n 3 --dist loadfile || $(BIN)/python -m tests.again $$?; \
	wait $$ahead
	$(PYTEST) --compiled $(COMPILED) -m 'not alone' -n 3 --dist loadfile || $(BIN)/python -m tests.again $$? --compiled
	$(PYTEST) tests -m alone || $(BIN)/python -m tests.again $$? --alone

test-unit: $(STAMP)  ## tests without sockets or clocks, in seconds
	$(PYTEST) tests/unit

test-loopback: $(STAMP)  ## tests over real sockets on loopback
	$(PYTEST) tests/loopback

test-cluster: $(STAMP)  ## the operator, the CRD and the charts against a real API server
	$(PYTEST) tests/cluster

test-e2e: $(STAMP)  ## the demo's claims and recovery on a real node
	$(PYTEST) tests/e2e

lint: $(STAMP)  ## format, lint, types, import rules and generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@# mypy takes as long as the rest, which runs beside it
	set -x; $(BIN)/mypy & types=$$!; trap 'wait' EXIT; \
	$(BIN)/lint-imports; $(BIN)/python -m nova_api.schema --check; $(BIN)/python -m nova_services.schemas --check; \
	wait $$types

bench: $(STAMP)  ## requests per second, latency and memory beside Envoy, HAProxy and nginx
	$(BIN)/python -m tests.bench

bench-operator: $(STAMP)  ## a thousand NovaServices, beside a bare client on the same API server
	$(BIN)/python -m tests.bench.convergence

bench-soak: $(STAMP)  ## ten minutes of everything at once: memory, descriptors and tasks must stay flat
	$(BIN)/python -m tests.bench.soak

bench-data: $(STAMP)  ## events a second through the outbox to Kafka, beside the bare producer
	$(BIN)/python -m tests.bench.data

protos: $(STAMP)  ## lint the protos, compare them with the last release, make Python of them
	$(BIN)/python -m tests.buf lint
	$(BIN)/python -m tests.buf breaking
	$(BIN)/python services/protos/hatch_build.py

crds: $(STAMP)  ## write the generated files: CRD and field reference
	$(BIN)/python -m nova_api.schema

images: $(STAMP)  ## build the images from the shipped Dockerfiles
	$(BIN)/nova images

chart: $(STAMP)  ## lint and render the Helm charts
	$(BIN)/nova chart

clean:  ## remove what the verbs wrote into this folder (not the cache)
	rm -rf $(VENV) build dist services/generated .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
