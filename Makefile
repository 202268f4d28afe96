# `make help` lists the targets. Everything runs in .venv, which the first target that needs it makes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BUILDER ?= $(firstword $(foreach each,podman docker buildah,$(if $(shell command -v $(each)),$(each))))
HUB ?= mutua
TAG ?= $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
BENCHES := analyze api_server ca ca_service local_cluster local_mesh snapshot telemetry translate verdict
LOCK := --quiet --generate-hashes --strip-extras --allow-unsafe --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options

.PHONY: help demo test check format bench images lock clean
.DEFAULT_GOAL := help

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.runtime: requirements.lock pyproject.toml
	@echo "Setting up $(VENV) (once; about a minute)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit("error: Python 3.11 or newer is needed; say which with: make PYTHON=/path/to/python3") if sys.version_info < (3, 11) else None'
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-build.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

demo: $(VENV)/.runtime ## Start everything and prove that traffic is encrypted, authenticated and authorized
	@$(BIN)/mutua demo $(ARGS)

test: $(VENV)/.dev ## Run every test: unit, integration with real Envoys, the journey with real kubectl
	@$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.dev ## Format, lint, types, import contracts, fast tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest -q tests/unit tests/test_architecture.py

format: $(VENV)/.dev ## Format and mend what the linter can mend
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format .

bench: $(VENV)/.dev ## Measure what can be measured in minutes (bench/README.md)
	@for name in $(BENCHES); do echo "== $$name"; $(BIN)/python bench/$$name.py || exit 1; done

images: ## Build the images for a Kubernetes cluster: make images HUB=registry.example.com/mesh
	@for name in pilot proxyv2; do \
	  $(BUILDER) build $(BUILD_ARGS) --file Containerfile --target $$name --tag $(HUB)/$$name:$(TAG) . || exit 1; done

lock: $(VENV)/.dev ## Write the hashed lock files anew
	@$(BIN)/pip-compile $(LOCK) -o requirements.lock pyproject.toml
	@$(BIN)/pip-compile $(LOCK) --only-build-deps --build-deps-for editable -o requirements-build.lock pyproject.toml
	@$(BIN)/pip-compile $(LOCK) --extra dev -c requirements.lock -o requirements-dev.lock pyproject.toml

clean: ## Remove the virtual environment and caches
	@rm -rf $(VENV) .tools .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
