# Two commands: `make up` starts the platform, `make test` proves it.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: up test prove bench bench-peers conformance lock format clean

up: $(VENV)/.runtime
	@exec $(RUN) -m weir up

test: $(VENV)/.dev
	@$(RUN) -m ruff check services shared tests
	@$(RUN) -m ruff format --check services shared tests
	@$(RUN) -m basedpyright
	@sh tests/run.sh $(RUN)

# The promises of docs/operations/promises.md, each with its figures; FULL=1 for the full sizes.
prove: $(VENV)/.dev
	@$(RUN) -m pytest -q -m promise

bench: $(VENV)/.dev
	@$(RUN) -m tests.benchmarks

# Installs other programs under .bench/ and takes minutes.
bench-peers: $(VENV)/.dev
	@$(RUN) -m tests.benchmarks agents peers

conformance: $(VENV)/.dev
	@$(RUN) -m tests.conformance $(SUITES)

format: $(VENV)/.dev
	@$(RUN) -m ruff check --fix services shared tests
	@$(RUN) -m ruff format services shared tests

lock: $(VENV)/.dev
	@sh deploy/lock.sh $(RUN)

clean:
	rm -rf $(VENV) .bench .pytest_cache .ruff_cache

$(VENV)/.runtime: deploy/requirements.lock pyproject.toml
	@sh deploy/install.sh "$(PYTHON)" $(VENV) deploy/requirements.lock
	@touch $@

$(VENV)/.dev: deploy/requirements-dev.lock pyproject.toml
	@sh deploy/install.sh "$(PYTHON)" $(VENV) deploy/requirements-dev.lock
	@touch $@ $(VENV)/.runtime
