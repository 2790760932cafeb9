# Two commands do everything on a fresh machine with Python 3.10 or later: `make demo` and `make test`.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/.stamp
WORKERS ?= 3
TEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder
export OMP_NUM_THREADS ?= 1
export RAY_USAGE_STATS_ENABLED ?= 0
export NO_MKDOCS_2_WARNING ?= 1

.PHONY: help setup demo services services-stop services-status test test-fast test-all lint format docs bench clean

help:  ## what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

setup: $(STAMP)  ## the environment in .venv, from the lock file

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.10 or later is needed: install python3.11, or set PYTHON=/path/to/python" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "$(PYTHON) is older than Python 3.10: set PYTHON=/path/to/a/newer/python" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

demo: $(STAMP)  ## the whole main job, small; DATA=DIR takes a real ICBHI database
	$(BIN)/lungtune demo $(if $(DATA),--data "$(DATA)")

services: $(STAMP)  ## PostgreSQL, S3, MLflow and a Ray cluster on this machine; PORTS="mlflow=5000" chooses ports
	@$(BIN)/python -m infra.services start $(PORTS)

services-stop:  ## end what `make services` started; data and secrets stay
	@$(BIN)/python -m infra.services stop

services-status:  ## which of the services can be used
	@$(BIN)/python -m infra.services status

test: $(STAMP)  ## the tests, but for those marked long or gpu; WORKERS=0 runs them in one process
	$(TEST) -m "not long and not gpu"

# A third process would spend more on reading the tests than it runs of them.
test-fast: WORKERS = 2
test-fast: $(STAMP)  ## those that take less than half a second and start nothing, for a change of one module
	$(TEST) --durations=5 -m "not slow and not service and not browser and not long and not gpu"

test-all: $(STAMP)  ## all tests that this machine can run
	$(TEST)

lint: $(STAMP)  ## ruff, mypy, deptry, the docs' links; shellcheck, hadolint and yamllint for infra
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/deptry . --no-ansi
	$(BIN)/mkdocs build --strict
	$(BIN)/shellcheck infra/*.sh infra/schedules/*.sh .ci/run
	$(BIN)/hadolint infra/Dockerfile
	$(BIN)/yamllint --strict --config-file infra/yamllint.yaml infra

format: $(STAMP)  ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP)  ## the documentation as a site in build/docs, without any network
	$(BIN)/mkdocs build --strict
	@echo "build/docs/index.html"

bench: $(STAMP)  ## speed, as ratios within one run
	$(BIN)/python -m benchmarks

clean:  ## remove the environment and the caches, not your results
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
