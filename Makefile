# make demo, make test: everything, without Docker. `make help` lists the rest.
PYTHON := .venv/bin/python
STAMP := .venv/.installed
# not artifacts/, which are the user's
DEMO := .local_test/demo

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-docker lint train up down clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-12s %s\n", $$1, $$2}'

setup: $(STAMP) ## install what development needs into .venv, and nginx where that is possible

$(STAMP): requirements/dev.txt tools/setup.sh
	@tools/setup.sh

demo: setup ## train on real data, start the chain, check its predictions, stop (DATASET=penguins, DATA=FILE.csv)
	@$(PYTHON) -m pipeline train --out $(DEMO) --dataset $(or $(DATASET),abalone) $(if $(DATA),--data '$(DATA)')
	@$(PYTHON) -m local_test chain run --state $(DEMO)/run --artifacts $(DEMO) -- $(PYTHON) -m pipeline demo --artifacts $(DEMO)

test: setup ## run the tests that need no Docker
	@$(PYTHON) -m pytest -m "not docker"

test-docker: setup ## build the images and run the tests that need Docker
	@tools/setup.sh registry
	@$(PYTHON) -m pytest -m docker

.PHONY: fuzz
fuzz: setup ## fuzz both containers and the router for 60 seconds (SECONDS=600 for longer, FUZZ_SEED=1 to repeat a run)
	@FUZZ_SECONDS=$(or $(SECONDS),60) $(PYTHON) -m pytest tests/fuzz

lint: setup ## check style, types and shell scripts
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/shellcheck build_and_push.sh tools/*.sh requirements/*.sh serving/bin/* .ci/run

train: setup ## train both stages anew
	@$(PYTHON) -m pipeline train

up: setup ## start the chain in the background; trains first when there are no artifacts
	@$(PYTHON) -m pipeline train --keep
	@$(PYTHON) -m local_test chain up

down: ## stop what `make up` started
	@[ ! -x $(PYTHON) ] || $(PYTHON) -m local_test chain down

.PHONY: bench
bench: setup ## measure speed, memory and start-up beside the floor and the AWS sample (ROUNDS=3 SECONDS=2 for less)
	@$(PYTHON) -m pipeline train --keep
	@mkdir -p .local_test
	@$(PYTHON) -m tools.bench $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SECONDS),--seconds $(SECONDS)) \
	  --json .local_test/bench.json --picture .local_test/bench.svg

clean: ## remove what was installed, trained and logged here
	@[ ! -x $(PYTHON) ] || $(PYTHON) -m local_test chain down
	@[ ! -x $(PYTHON) ] || $(PYTHON) -m local_test down
	@rm -rf .venv .local_test .mypy_cache .pytest_cache .ruff_cache artifacts/*
