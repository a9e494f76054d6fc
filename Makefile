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

setup: $(VENV)/.development ## make .venv with everything: serving, training, tests

serve: $(VENV)/.serving ## install what serving needs, and serve ./models on port 8000
	$(BIN)/logitserve serve

train: $(VENV)/.development ## train RECIPE=digits [DATA=folder] and publish it in ./models
	@test -n "$(RECIPE)" || { $(BIN)/logitserve train --help; exit 2; }
	$(BIN)/logitserve train $(RECIPE) $(if $(DATA),--data $(DATA))

test: $(VENV)/.development protocol-clients programs ## run every test
	$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile

TEST_PROCESSES ?= 2

test-deploy: $(VENV)/.development programs ## run what people deploy: image, compose, Kubernetes, proxies
	@for program in $(DEPLOY_PROGRAMS); do \
		command -v $${program%:*} >/dev/null \
			|| scripts/install-debian-packages $${program#*:} || true; done
	@docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null \
		|| scripts/install-debian-packages docker-compose || true
	$(BIN)/python -m pytest tests/deploy

drills: $(VENV)/.development programs ## break things while the service runs: docs/runbook.md has them
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

loadtest: $(LOADTEST)/.installed ## load a running service: HOST= USERS= SECONDS= PROCESSES=
	@mkdir -p $(LOADTEST_RESULTS)
	$(LOCUST) --locustfile tests/load/locustfile.py --users $(USERS) --spawn-rate $(USERS) \
		--run-time $(SECONDS)s --html $(LOADTEST_RESULTS)/report.html

knee: $(LOADTEST)/.installed ## the most requests/s that a running service stands: HOST= PROCESSES=
	@mkdir -p $(LOADTEST_RESULTS)
	KNEE_FOLDER=$(LOADTEST_RESULTS) $(LOCUST) --locustfile tests/load/knee.py \
		--html $(LOADTEST_RESULTS)/knee.html --loglevel WARNING
	$(LOADTEST)/bin/python -m tests.load.chart $(LOADTEST_RESULTS)/knee.json $(LOADTEST_RESULTS)/knee.png

lint: $(VENV)/.development ## check style and types, tests included
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.development ## measure every form of a request beside peers: BENCH="--rows raw --quick"
	@command -v wrk >/dev/null || scripts/install-debian-packages wrk
	$(BIN)/python -m benchmarks.compare $(BENCH)

bench-sweeps: $(VENV)/.development ## measure what a request costs against what it carries
	@command -v wrk >/dev/null || scripts/install-debian-packages wrk
	$(BIN)/python -m benchmarks.sweeps

fuzz: $(VENV)/.development ## an hour of inputs that cost more than they are, and fuzzing guided by coverage
	GRPC_VERBOSITY=NONE $(BIN)/python -m tests.hunt --seconds $(FUZZ_SECONDS)
	$(BIN)/python -m tests.fuzz $(TARGET) -max_total_time=$(FUZZ_SECONDS)

soak: $(VENV)/.development ## load the service for MINUTES=10 at 70 % of what it can, and watch its memory
	$(BIN)/python -m benchmarks.soak --minutes $(MINUTES)

TARGET ?= image,json,binary
FUZZ_SECONDS ?= 1800
MINUTES ?= 10

format: $(VENV)/.development ## mend what can be mended by itself
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header
COMPILE := $(LOCK) --upgrade --group build pyproject.toml
# What images and other environments are made of, in the versions that are tested here.
SUBSET := $(LOCK) --constraint requirements/development.txt

lock: $(VENV)/.development ## bring requirements/*.txt up to date with pyproject.toml
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

protobuf: $(VENV)/.development ## write the messages of gRPC anew from inference.proto
	$(BIN)/uv tool run --from grpcio-tools==1.85.1 python-grpc-tools-protoc \
		-I service --python_out=service --pyi_out=service \
		service/logitserve_service/api/inference.proto

CLIENTS := $(VENV)/protocol-clients

protocol-clients: $(CLIENTS)/.installed $(CLIENTS)/node/.installed ## install other people's clients, which tests run

# Of a program that cannot be had, its tests are skipped, and say so.
PROGRAMS := chromium strace curl wget node:nodejs java:default-jdk-headless go:golang-go faketime
# What a program is called, and the package that has it where that is called otherwise.
DEPLOY_PROGRAMS := dockerd:docker.io docker:docker.io debootstrap haproxy nginx prometheus

programs: ## install the programs of Debian that tests run, where they are missing
	@for program in $(PROGRAMS); do \
		command -v $${program%:*} >/dev/null \
			|| scripts/install-debian-packages $${program#*:} || true; done

clean: ## remove .venv and caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { \
		echo "Python is missing: install python3 (3.11, 3.12 or 3.13)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
		echo "$(PYTHON) is $$($(PYTHON) -V), but 3.11, 3.12 or 3.13 is needed:" \
			"install one and run make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "Python's venv module is missing: install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# In an environment of their own: they want another protobuf than TensorFlow's, and much besides.
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
	else echo "npm is missing: the clients of Node's packages are not tested" >&2; fi
	@touch $@

$(LOADTEST)/.installed: requirements/loadtest.txt | $(BIN)/python
	rm -rf $(LOADTEST)
	$(BIN)/python -m venv $(LOADTEST)
	$(LOADTEST)/bin/python -m pip --disable-pip-version-check --quiet install \
		--require-hashes --requirement $<
	@touch $@

$(VENV)/.serving: requirements/serving.txt pyproject.toml | $(BIN)/python
	$(PIP) install --require-hashes --requirement requirements/serving.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.development: requirements/development.txt requirements/serving.txt pyproject.toml | $(BIN)/python
	$(PIP) install --require-hashes --requirement requirements/development.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $(VENV)/.serving $@
