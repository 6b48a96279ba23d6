# SPDX-License-Identifier: Apache-2.0
# Everything here sets up what it needs. What brings up a lab needs root.

PYTHON ?= python3
BIN := .venv/bin
ENGINES := 20.10 26.1 28.5
ENGINE ?= 20.10
# Tests that wait for dockerd leave a processor to others; a file's tests share a lab.
SIDE_BY_SIDE := --numprocesses 2 --dist loadfile --no-loadscope-reorder
PLUGIN ?= dni:latest
BUILD ?= build/plugin
export DESTDIR PREFIX SYSCONFDIR PURGE FORCE

.DEFAULT_GOAL := help
.PHONY: help setup format lint typecheck check test test-unit test-engines test-survival demo demo-mesos lab bench bench-cluster plugin install uninstall clean

help:  ## Show these lines
	@echo "make TARGET, where TARGET is one of:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F '|' '{ printf "%-16s %s\n", $$1, $$2 }'

setup: $(BIN)/.complete  ## Install what the targets below need: Debian packages (as root), and .venv
	@.ci/packages $$(cat tests/packages.txt tests/lab/packages.txt)
	@command -v docker > /dev/null || .ci/packages docker-cli

$(BIN)/.complete: pyproject.toml
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || .ci/packages python3 python3-venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "dni needs Python 3.11 or later")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -qq --upgrade 'pip>=25.1'
	$(BIN)/pip install -qq --editable . --group test --group lint
	@touch $@

format: $(BIN)/.complete  ## Write all code in one hand
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

lint: $(BIN)/.complete  ## Look for faults of style and common mistakes
	$(BIN)/ruff format --check
	$(BIN)/ruff check

typecheck: $(BIN)/.complete  ## Check the types
	$(BIN)/mypy

check: lint typecheck test-unit  ## What to run before each commit (no root)

test: setup  ## Run every test, two files at a time, on Docker Engine 20.10 (root)
	$(BIN)/pytest $(SIDE_BY_SIDE)

test-unit: $(BIN)/.complete  ## Run the tests that need neither root, Docker nor ZooKeeper
	$(BIN)/pytest -m "not root and not lab and not zookeeper"

test-engines: setup  ## Run what needs an engine on Docker Engine 20.10, 26.1 and 28.5 (root)
	for engine in $(ENGINES); do $(BIN)/python -m tests.lab engine $$engine || exit; done
	$(BIN)/pytest tests/lab
	for engine in $(ENGINES); do LAB_ENGINE=$$engine $(BIN)/pytest $(SIDE_BY_SIDE) tests/e2e || exit; done

test-survival: setup  ## Run what a cluster must survive at full length: ZooKeeper away for 5 minutes, hosts for 2 (root)
	SURVIVAL_OUTAGE=300 SURVIVAL_CUT=120 $(BIN)/pytest tests/e2e/test_cluster_survival.py

demo: setup  ## See it work: a lab host, a network, three containers; leaves nothing behind (root)
	@$(BIN)/python -m tests.demo

demo-mesos: setup  ## See Docker and Mesos (CNI) tasks on one overlay of two lab hosts; leaves nothing behind (root)
	@$(BIN)/python -m tests.demo.mesos

lab: setup  ## Bring up two lab hosts to look around in, until Enter (root)
	@$(BIN)/python -m tests.lab up --dni

bench: setup  ## Measure dni beside Docker's own networks, ENGINE=20.10: a table, and bench-result.json (root)
	@$(BIN)/python -m tests.bench --engine $(ENGINE)

bench-cluster: setup  ## Measure what gets across hosts, by dni and by what else there is (root)
	@$(BIN)/python -m tests.bench.cluster --engine $(ENGINE)

plugin:  ## Build dni as a managed plugin of the Docker Engine here, PLUGIN=dni:latest (root)
	@.ci/packages debootstrap debian-archive-keyring
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || .ci/packages python3 python3-venv
	@if [ -S /run/docker/plugins/dni.sock ] && [ $(PLUGIN) = dni:latest ]; then \
		echo "dni is here as a driver on a socket; a plugin $(PLUGIN) would hide it: see docs/managed-plugin.md" >&2; \
		exit 1; \
	fi
	@PYTHON=$(PYTHON) plugin/build $(BUILD) $(PLUGIN)
	@docker plugin create $(PLUGIN) $(BUILD)
	@echo "To start it: mkdir -p /var/lib/dni && docker plugin enable $(PLUGIN)"

install:  ## Install dni on this host: the command and systemd units; PREFIX=/usr/local, DESTDIR= (root)
	@PYTHON=$(PYTHON) packaging/install

uninstall:  ## Take away what `make install` put here; PURGE=1 takes addresses and settings too (root)
	@packaging/uninstall

clean:  ## Remove what these targets made, .venv and downloaded Docker Engines included
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info bench-result*.json
	find dni_driver tests -name __pycache__ -type d -exec rm -rf {} +
