# Everything is done by the scripts; this file only names the doors. `make help` lists them.

MAKEFLAGS += --no-print-directory
SHELL := /bin/sh
.DEFAULT_GOAL := help

# An unset variable means: the system's python3 if it is new enough, else the one on PATH (see scripts/setup).
export PYTHON ?=
# More words for pytest (make test ARGS="-k overlay"), for the bench (make bench ARGS="--only exec").
ARGS ?=

MEMBERS := $(wildcard core/*/pyproject.toml drivers/*/*/pyproject.toml plugins/*/pyproject.toml)
TEST_MEMBERS := $(wildcard tests/*/pyproject.toml plugin-template/pyproject.toml)

.PHONY: help run test lint bench test-vm clean

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.* ## \(.*\)/  make \1 | \2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-16s%s\n", $$1, $$2 }'

run: .venv/installed-run ## install into .venv and run one container in a private daemon; leaves nothing behind
	@.venv/bin/python scripts/demo

test: .venv/installed-test ## lint, then all tests this machine can run (CI=true: what cannot run is a failure)
	@scripts/test $(ARGS)

lint: .venv/installed-test ## ruff, mypy --strict, import rules, words that do not belong here
	@scripts/lint

bench: .venv/installed-run ## pyd beside an installed dockerd: times, memory, throughput
	@.venv/bin/python tests/bench/bench.py $(ARGS)

test-vm: .venv/installed-test ## tests for what this kernel may lack, in a throw-away virtual machine
	@scripts/provision vm
	@.venv/bin/python tests/vm/vm.py test $(ARGS)

clean: ## remove .venv and everything that was built or cached here
	@rm -rf .venv dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/installed-run: scripts/setup pyproject.toml constraints.txt $(MEMBERS)
	@scripts/setup run

.venv/installed-test: .venv/installed-run $(TEST_MEMBERS)
	@scripts/setup test
