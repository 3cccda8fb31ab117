# `make help` lists the targets. Nothing is needed beforehand but git, make, python3 (3.11 or newer) and apt.

PYTHON ?= python3
SHELL := /bin/sh
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

# The interpreter itself: a pyenv shim or another environment's link would not survive the lean PATH below.
ifndef PYTHON_REAL
PYTHON_REAL := $(shell $(PYTHON) -c 'import os, sys; print(os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable))' 2>/dev/null)
endif
export PYTHON_REAL

VENV := .venv
PY := $(VENV)/bin/python
IMPORTER := .venv-galaxy-importer
TREE := .cache/ansible_collections/llmops/dify_xinference
STAGE := tests/tools/stage

# What a login shell adds to PATH may hold other Ansibles, and interpreters that do not run in a clean environment.
export PATH := $(CURDIR)/$(VENV)/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL := C.UTF-8
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/collections
export ANSIBLE_HOME ?= $(CURDIR)/.ansible
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONUNBUFFERED := 1

# Molecule scenarios; the fleet brings their hosts.
SCENARIOS := $(wildcard molecule/*/molecule.yml)
TARGETS := $(wildcard tests/integration/targets/*/aliases)
CHECKS := $(wildcard tests/fleet/checks/test_*.py)

.PHONY: help
help: ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | while IFS="$$(printf '\t')" read -r target text; do printf '  make %-12s %s\n' "$$target" "$$text"; done
	@printf '%s\n' '' 'Variables: PYTHON=python3 (the interpreter everything is built with), LLMOPS_CACHE, LLMOPS_FLEET_CACHE (shared caches),' \
	  'MOLECULE="-s docker" (one scenario), CHECKS=tests/fleet/checks/test_x.py (one fleet check).'

.PHONY: demo
demo: announce venv ## the whole platform on an embedded fleet: site.yml, a question answered, where the UIs are
	@$(PY) -m tests.fleet demo

.PHONY: test
test: announce ## everything below; stops at the first stage that fails
	@start=$$(date +%s); $(MAKE) venv && $(MAKE) lint && $(MAKE) sanity && $(MAKE) units && $(MAKE) contract && $(MAKE) integration \
	  && $(MAKE) molecule && $(MAKE) fleet \
	  && printf '\n=== make test: everything passed, %s s\n' "$$(($$(date +%s) - start))" \
	  || { printf '\n=== make test: FAILED after %s s; the stage that failed is the last one above\n' "$$(($$(date +%s) - start))"; exit 1; }

.PHONY: test-all
test-all: ## make test, then what is too long for every change (tests/extra-stages.txt)
	@$(MAKE) test && $(MAKE) extra

.PHONY: extra
extra: venv ## the stages of tests/extra-stages.txt alone; EXTRA=WORD for those with that in their name
	@$(PY) -m tests.tools.extra_stages $(EXTRA)

.PHONY: bench
bench: venv ## ratios, measured side by side on this machine; they judge nothing
	@for bench in tests/bench/[a-z]*.py; do $(PY) -m "tests.bench.$$(basename "$$bench" .py)" || exit 1; done

.PHONY: announce
announce:
	@printf '%s\n' \
	  'What this changes on the machine (make clean takes it away again, except packages):' \
	  '  packages  when missing, by apt-get as root or through sudo: python3-venv, and what the fleet needs (docker.io, debootstrap, gnupg ...)' \
	  '  kernel    fs.inotify limits raised, IPv4 forwarding on, a bridge network of its own with iptables rules' \
	  '  docker    an engine of its own (own data and socket) when the fleet runs; no other engine is touched' \
	  '  files     .venv, .cache and .fleet here; caches in $${XDG_CACHE_HOME:-~/.cache}/llmops-dify-xinference and .../llmops-fleet' ''

.PHONY: venv
venv: ## .venv with Ansible and the tools; shared by all checkouts of this machine, instant when it is there
	@if [ -z "$(PYTHON_REAL)" ]; then echo 'Cannot run "$(PYTHON)". Install python3 (3.11 or newer), or name one: make PYTHON=/path/to/python3 ...' >&2; exit 1; fi
	@$(PYTHON_REAL) tests/tools/venv.py $(VENV) requirements/development.txt

.PHONY: venv-importer
venv-importer:
	@$(PYTHON_REAL) tests/tools/venv.py $(IMPORTER) requirements/galaxy-importer.txt

.PHONY: lint
lint: venv ## yamllint, ruff, mypy, ansible-lint, arguments of roles, changelog, documents, Galaxy's importer
	@$(STAGE) yamllint $(VENV)/bin/yamllint --strict .
	@$(STAGE) ruff $(VENV)/bin/ruff check .
	@$(STAGE) mypy $(VENV)/bin/mypy plugins/module_utils tests/fleet tests/tools tests/chaos tests/bench
	@$(STAGE) 'role arguments' $(PY) -m tests.tools.role_arguments
	@$(STAGE) documents $(PY) -m tests.tools.readme_commands
	@$(STAGE) ansible-lint $(VENV)/bin/ansible-lint --offline --strict --nocolor
	@$(STAGE) 'antsibull-changelog' $(VENV)/bin/antsibull-changelog lint
	@$(PY) -m tests.tools.tree >/dev/null
	@$(STAGE) 'antsibull-docs' sh -c 'ANSIBLE_COLLECTIONS_PATH="$$PWD/.cache"; export ANSIBLE_COLLECTIONS_PATH; cd $(TREE) && exec antsibull-docs lint-collection-docs --plugin-docs --skip-rstcheck --validate-collection-refs=dependent .'
	@$(MAKE) importer

.PHONY: importer
importer: venv venv-importer ## Galaxy's importer on the built archive
	@$(PY) -m tests.tools.tree >/dev/null
	@$(STAGE) 'galaxy-importer' $(PY) -m tests.tools.importer $(IMPORTER)

.PHONY: sanity
sanity: venv ## ansible-test sanity
	@$(STAGE) 'ansible-test sanity' $(PY) -m tests.tools.ansible_test sanity

.PHONY: units
units: venv ## unit tests, with pytest and with ansible-test
	@$(STAGE) 'unit tests' $(PY) -m pytest tests/unit
	@$(STAGE) 'ansible-test units' $(PY) -m tests.tools.ansible_test units --python default

.PHONY: contract
contract: venv ## clients and stand-ins against recordings, and against a real Xinference
	@$(STAGE) 'contract tests' $(PY) -m pytest tests/contract

.PHONY: integration
integration: venv ## every module through Ansible: ansible-test integration
	@if [ -z "$(TARGETS)" ]; then echo 'No integration targets yet.'; else $(STAGE) 'ansible-test integration' $(PY) -m tests.tools.ansible_test integration; fi

.PHONY: molecule
molecule: venv ## roles on real systemd hosts of the fleet
	@if [ -z "$(SCENARIOS)" ]; then echo 'No Molecule scenarios yet.'; else $(STAGE) molecule $(PY) -m tests.tools.molecule $(MOLECULE); fi

.PHONY: fleet
fleet: venv ## the whole chain on the embedded fleet, with everything it promises
	@if [ -z "$(CHECKS)" ]; then echo 'No fleet checks yet.'; else $(STAGE) 'fleet' $(PY) -m pytest -v -s --tb=short $(CHECKS); fi

.PHONY: chaos
chaos: venv ## faults of Xinference, and how many seconds each costs; needs minutes for each
	@$(STAGE) 'chaos' $(PY) -m pytest -v -s --tb=short tests/chaos

.PHONY: build
build: venv ## the collection's archive
	@$(PY) -m tests.tools.tree >/dev/null
	@$(VENV)/bin/ansible-galaxy collection build --force --output-path . $(TREE)

.PHONY: clean
clean: ## stop the fleet and remove all that was made here and in the caches; packages stay
	@if [ -x $(PY) ]; then $(PY) -m tests.fleet clean --caches; elif [ -d .fleet ]; then echo 'No .venv: run make venv first, so that the fleet can be stopped.' >&2; exit 1; fi
	rm -rf .venv .venv-galaxy-importer .cache .fleet .ansible .mypy_cache .pytest_cache .ruff_cache tests/output llmops-dify_xinference-*.tar.gz
	rm -rf "$${LLMOPS_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/llmops-dify-xinference}"
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
