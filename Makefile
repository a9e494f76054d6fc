# The commands of the project. `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: help setup serve train test test-deploy drills loadtest knee lint bench bench-sweeps fuzz soak format lock protobuf protocol-clients programs clean

help: ## list the commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.development ## create .venv for serving, training and tests

serve: $(VENV)/.serving ## install the serving dependencies, and serve ./models on port 8000
	$(BIN)/logitserve serve

train: $(VENV)/.development ## train RECIPE=digits [DATA=folder] and publish the model in ./models
	@test -n "$(RECIPE)" || { $(BIN)/logitserve train --help; exit 2; }
	$(BIN)/logitserve train $(RECIPE) $(if $(DATA),--data $(DATA))

test: $(VENV)/.development protocol-clients programs ## run every test
	$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) \
		--dist loadfile --no-loadscope-reorder

TEST_PROCESSES ?= 2

test-deploy: $(VENV)/.development programs ## test the deployment: image, compose, Kubernetes, proxies
	@for program in $(DEPLOY_PROGRAMS); do \
		command -v $${program%:*} >/dev/null \
			|| scripts/install-debian-packages $${program#*:} || true; done
	@docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null \
		|| scripts/install-debian-packages docker-compose || true
	$(BIN)/python -m pytest tests/deploy

drills: $(VENV)/.development programs ## run the failure drills of docs/runbook.md
	$(BIN)/python -m pytest -m drill
	$(BIN)/python -m pytest -m drill tests/deploy

LOADTEST := $(VENV)/loadtest
LOADTEST_RESULTS := build/loadtest
HOST ?= http://localhost:8000
USERS ?= 8
SECONDS ?= 30
PROCESSES ?= 1
LOCUST = PYTHONPATH=.:training $(LOADTEST)/bin/locust --headless --only-summary --host $(HOST) \
	$(if $(filter-out 1,$(PROCESSES)),--processes $(PROCESSES))

loadtest: $(LOADTEST)/.installed ## load test of a running service: HOST= USERS= SECONDS= PROCESSES=
	@mkdir -p $(LOADTEST_RESULTS)
	$(LOCUST) --locustfile tests/load/locustfile.py --users $(USERS) --spawn-rate $(USERS) \
		--run-time $(SECONDS)s --html $(LOADTEST_RESULTS)/report.html

knee: $(LOADTEST)/.installed ## measure the maximum throughput of a running service: HOST= PROCESSES=
	@mkdir -p $(LOADTEST_RESULTS)
	KNEE_FOLDER=$(LOADTEST_RESULTS) $(LOCUST) --locustfile tests/load/knee.py \
		--html $(LOADTEST_RESULTS)/knee.html --loglevel WARNING
	$(LOADTEST)/bin/python -m tests.load.chart $(LOADTEST_RESULTS)/knee.json $(LOADTEST_RESULTS)/knee.png

lint: $(VENV)/.development ## check style and types, tests included
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.development ## compare every request form with peers: BENCH="--rows raw --quick"
	@command -v wrk >/dev/null || scripts/install-debian-packages wrk
	$(BIN)/python -m benchmarks.compare $(BENCH)

bench-sweeps: $(VENV)/.development ## measure the cost of a request by its content
	@command -v wrk >/dev/null || scripts/install-debian-packages wrk
	$(BIN)/python -m benchmarks.sweeps

fuzz: $(VENV)/.development ## an hour of resource-exhaustion inputs and coverage-guided fuzzing
	GRPC_VERBOSITY=NONE $(BIN)/python -m tests.hunt --seconds $(FUZZ_SECONDS)
	$(BIN)/python -m tests.fuzz $(TARGET) -max_total_time=$(FUZZ_SECONDS)

soak: $(VENV)/.development ## load the service for MINUTES=10 at 70 % of its capacity, and plot its memory
	$(BIN)/python -m benchmarks.soak --minutes $(MINUTES)

TARGET ?= image,json,binary
FUZZ_SECONDS ?= 1800
MINUTES ?= 10

format: $(VENV)/.development ## fix what can be fixed automatically
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header
COMPILE := $(LOCK) --upgrade --group build pyproject.toml
# Subsets for images and other environments, in the tested versions.
SUBSET := $(LOCK) --constraint requirements/development.txt

lock: $(VENV)/.development ## update requirements/*.txt from pyproject.toml
	$(COMPILE) --output-file requirements/serving.txt
	$(COMPILE) --group dev --all-extras --constraint requirements/serving.txt \
		--output-file requirements/development.txt
	$(LOCK) --upgrade requirements/protocol-clients.in \
		--output-file requirements/protocol-clients.txt
	$(SUBSET) --group build --output-file requirements/build.txt
	$(SUBSET) --extra grpc --extra otel pyproject.toml \
		--output-file requirements/image.txt
	$(SUBSET) --extra training pyproject.toml --output-file requirements/training.txt
	$(SUBSET) --upgrade requirements/loadtest.in --output-file requirements/loadtest.txt

protobuf: $(VENV)/.development ## generate the gRPC messages from inference.proto
	$(BIN)/uv tool run --from grpcio-tools==1.85.1 python-grpc-tools-protoc \
		-I service --python_out=service --pyi_out=service \
		service/logitserve_service/api/inference.proto

CLIENTS := $(VENV)/protocol-clients

protocol-clients: $(CLIENTS)/.installed $(CLIENTS)/node/.installed ## install the third-party clients that tests run

# Without a program its tests fail, or are skipped in test_clients.py.
PROGRAMS := chromium strace curl wget node:nodejs java:default-jdk-headless go:golang-go faketime
# program[:package], with the package if its name differs.
DEPLOY_PROGRAMS := dockerd:docker.io docker:docker.io debootstrap haproxy nginx prometheus

programs: ## install the missing Debian programs that tests run
	@for program in $(PROGRAMS); do \
		command -v $${program%:*} >/dev/null \
			|| scripts/install-debian-packages $${program#*:} || true; done

clean: ## remove .venv, compiled modules and caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find logitserve service training -name '*.so' -delete

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { \
		echo "Python is missing: install python3 (3.11, 3.12 or 3.13)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
		echo "$(PYTHON) is $$($(PYTHON) -V), but 3.11, 3.12 or 3.13 is needed:" \
			"install one and run make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "Python's venv module is missing: install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# A separate environment: they need another protobuf than TensorFlow, among others.
$(CLIENTS)/.installed: requirements/protocol-clients.txt | $(BIN)/python
	rm -rf $(CLIENTS)
	$(BIN)/python -m venv $(CLIENTS)
	$(CLIENTS)/bin/python -m pip --disable-pip-version-check --quiet install \
		--require-hashes --requirement $<
	@touch $@

$(CLIENTS)/node/.installed: tests/e2e/clients/package.json | $(CLIENTS)/.installed
	mkdir -p $(CLIENTS)/node
	cp $< $(CLIENTS)/node
	@if command -v npm >/dev/null; then \
		npm install --silent --no-audit --no-fund --no-package-lock --prefix $(CLIENTS)/node; \
	else echo "npm is missing: the clients from npm are not tested" >&2; fi
	@touch $@

$(LOADTEST)/.installed: requirements/loadtest.txt | $(BIN)/python
	rm -rf $(LOADTEST)
	$(BIN)/python -m venv $(LOADTEST)
	$(LOADTEST)/bin/python -m pip --disable-pip-version-check --quiet install \
		--require-hashes --requirement $<
	@touch $@

# Installation compiles the Cython modules, with a C compiler and Python's headers.
SOURCES := pyproject.toml hatch_build.py \
	$(shell find logitserve service training -name '*.pyx' -o -name '*.pxd')

define INSTALL
@$(BIN)/python -c 'import hatch_build, sys; sys.exit(hatch_build.missing())' \
	|| scripts/install-debian-packages gcc libc6-dev python3-dev
$(PIP) install --no-deps --no-build-isolation --editable .
endef

$(VENV)/.serving: requirements/serving.txt $(SOURCES) | $(BIN)/python
	$(PIP) install --require-hashes --requirement requirements/serving.txt
	$(INSTALL)
	@touch $@

$(VENV)/.development: requirements/development.txt requirements/serving.txt $(SOURCES) | $(BIN)/python
	$(PIP) install --require-hashes --requirement requirements/development.txt
	$(INSTALL)
	@touch $(VENV)/.serving $@
