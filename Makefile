# make run: a broker from a fresh clone. make test: its tests. make help: the rest.
# Needs Python 3.11 or later, git and make; all else goes into .venv.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet
# Stamps: made last, so that an interrupted install is begun again.
RUN_READY := $(VENV)/.ready-to-run
DEV_READY := $(VENV)/.ready-to-develop
BENCH_READY := $(VENV)/.ready-to-bench
# Test processes at a time; `make test WORKERS=4`.
WORKERS ?= auto
# Options for what is run: `make run ARGS='--data-dir DIR'`, `make test ARGS='-k verify'`.
ARGS ?=

# The first Python that is new enough and can make a virtual environment.
PYTHONS = python3 python3.14 python3.13 python3.12 python3.11 python
FIND_PYTHON = for candidate in $(or $(PYTHON),$(PYTHONS)); do \
	if $$candidate -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
	2>/dev/null; then echo $$candidate; exit 0; fi; done; \
	echo 'mq needs Python 3.11 or later with venv (on Debian: apt-get install python3-venv);' \
	'name one with PYTHON=...' >&2; exit 1

.PHONY: help
help: ## Show this.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

.PHONY: run
run: $(RUN_READY) ## Set up what is needed and run a broker on port 50051.
	@exec $(BIN)/mq serve $(ARGS)

.PHONY: test
test: $(DEV_READY) ## Set up what is needed and run the tests.
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(ARGS)

.PHONY: torture
torture: $(DEV_READY) ## Kill, cut the power, fill disks: a round of every fault (as root: all of them).
	@$(PIP) -e '.[fuzz]' || echo 'No atheris here: fuzzing goes by chance.' >&2
	$(BIN)/python -m tests.torture $(ARGS)

.PHONY: lint
lint: $(DEV_READY) ## Check style, format and the Dockerfile.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@if [ -x $(BIN)/hadolint ]; then echo '$(BIN)/hadolint Dockerfile'; $(BIN)/hadolint Dockerfile; fi

.PHONY: format
format: $(DEV_READY) ## Format, and fix what can be fixed.
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

.PHONY: types
types: $(DEV_READY) ## Check types.
	$(BIN)/mypy

.PHONY: stubs
stubs: $(DEV_READY) ## Generate mq/pb from proto/mq.proto.
	$(BIN)/python tools/gen_stubs.py

.PHONY: stubs-go
stubs-go: $(DEV_READY) ## Generate the stubs of examples/go (needs Go).
	cd examples/go && go build -o .bin/ google.golang.org/protobuf/cmd/protoc-gen-go \
		google.golang.org/grpc/cmd/protoc-gen-go-grpc
	$(BIN)/python -m grpc_tools.protoc -I proto \
		--plugin=examples/go/.bin/protoc-gen-go \
		--go_out=examples/go --go_opt=module=mq.example \
		--plugin=examples/go/.bin/protoc-gen-go-grpc \
		--go-grpc_out=examples/go --go-grpc_opt=module=mq.example mq.proto

.PHONY: stubs-check
stubs-check: $(DEV_READY) ## Check that mq/pb is what proto/mq.proto generates.
	$(BIN)/python tools/gen_stubs.py --check

.PHONY: proto-check
proto-check: $(DEV_READY) ## Lint proto/mq.proto and compare it with the contracts it must keep.
	$(BIN)/buf lint
	@for contract in tests/contract/*/mq.proto; do \
		echo "$(BIN)/buf breaking proto --against $${contract%/mq.proto}"; \
		$(BIN)/buf breaking proto --against "$${contract%/mq.proto}" || exit 1; \
	done

.PHONY: check
check: lint types stubs-check proto-check test ## All of the checks.

.PHONY: bench
bench: $(BENCH_READY) ## Measure everything (under 15 minutes).
	$(BIN)/python -m bench $(ARGS)

.PHONY: bench-quick
bench-quick: $(BENCH_READY) ## Measure the main figures (about 2 minutes).
	$(BIN)/python -m bench --quick $(ARGS)

.PHONY: clean
clean: ## Remove the virtual environment and caches; never data.
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUN_READY): pyproject.toml
	@rm -f $(RUN_READY) $(DEV_READY) $(BENCH_READY)
	@python=$$($(FIND_PYTHON)) && echo "Setting up $(VENV) with $$($$python --version)" && \
		$$python -m venv --clear $(VENV)
	@$(PIP) -e '.[speed]'
	@touch $@

# No stamp is left while it installs: what is cut short is begun again from nothing.
$(DEV_READY): $(RUN_READY)
	@rm -f $(RUN_READY)
	@echo 'Adding what development needs'
	@$(PIP) -e '.[dev]'
	@touch $(RUN_READY) $@

$(BENCH_READY): $(RUN_READY)
	@echo 'Adding what the benchmarks need'
	@$(PIP) -e '.[bench]'
	@touch $@
