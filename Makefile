# make demo, make test: everything, without Docker. `make help` lists the rest.
PYTHON := .venv/bin/python
STAMP := .venv/.installed
# not artifacts/, which are the user's
DEMO := .local_test/demo
PYTEST := $(PYTHON) -m pytest -n auto --dist loadfile
# what `train` and `up` are of, in the words of `python -m pipeline train`
ROWS := $(if $(SCHEMA),--schema '$(SCHEMA)') $(if $(DATASET),--dataset '$(DATASET)') $(if $(DATA),--data '$(DATA)')

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-docker test-all mutants lint train up down clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-12s %s\n", $$1, $$2}'

setup: $(STAMP) ## install what development needs into .venv, and nginx where that is possible

$(STAMP): requirements/dev.txt tools/setup.sh
	@tools/setup.sh

demo: setup ## train on real data, start the chain, check its predictions, stop (DATASET=penguins, or SCHEMA=FILE.toml DATA=FILE.csv)
	@$(PYTHON) -m local_test chain ports --state $(DEMO)/run
	@$(PYTHON) -m pipeline train --out $(DEMO) $(ROWS)
	@$(PYTHON) -m local_test chain run --state $(DEMO)/run --artifacts $(DEMO) -- $(PYTHON) -m pipeline demo --artifacts $(DEMO)
	@echo "The chain is stopped. To keep one running: $(strip make up $(foreach name,DATASET SCHEMA DATA,$(if $($(name)),$(name)='$($(name))'))); then open http://127.0.0.1:$${ROUTER_PORT:-8080}/"

test: setup ## run the tests that need no Docker (TESTS=tests/unit for some of them)
	@$(PYTEST) -m "not docker and not long" $(TESTS)

test-docker: setup ## build the images and run the tests that need Docker
	@tools/setup.sh registry
	@$(PYTEST) -m "docker and not long" $(TESTS)

test-all: setup ## run every test, the long ones and those with Docker too, then try every check and `make mutants` (hours)
	@tools/setup.sh registry
	@tools/setup.sh browser
	@$(PYTEST) $(if $(shell docker info 2>/dev/null),,-m "not docker") $(TESTS)
	@$(PYTHON) -m tools.mutation --checks --least 100
	@$(MAKE) mutants

mutants: setup ## put COUNT=20 faults into the lines changed since SINCE=origin/main, and say how many the tests notice (SEED=1)
	@$(PYTHON) -m tools.mutation --count $(or $(COUNT),20) --seed $(or $(SEED),1) --since $(or $(SINCE),origin/main)

.PHONY: fuzz
fuzz: setup ## fuzz every container and the router for 60 seconds (SECONDS=600 for longer, FUZZ_SEED=1 to repeat a run)
	@FUZZ_SECONDS=$(or $(SECONDS),60) $(PYTHON) -m pytest -m "not long" tests/fuzz

lint: setup ## check style, types and shell scripts
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/shellcheck build_and_push.sh tools/*.sh requirements/*.sh serving/bin/* .ci/run

train: setup ## train both stages anew (DATASET=penguins, or SCHEMA=FILE.toml DATA=FILE.csv)
	@$(PYTHON) -m pipeline train $(ROWS)

up: setup ## start the chain in the background, of artifacts/ or the demo's; trains first when they are not of DATASET, SCHEMA, DATA
	@$(PYTHON) -m local_test chain ports
	@[ -e artifacts/featurizer ] || [ ! -e $(DEMO)/report.txt ] \
	  || cp -R $(addprefix $(DEMO)/,featurizer predictor test.csv report.txt) $(DEMO)/*.png artifacts/
	@$(PYTHON) -m pipeline train --keep $(ROWS)
	@$(PYTHON) -m local_test chain up

down: ## stop what `make up` started
	@[ ! -x $(PYTHON) ] || $(PYTHON) -m local_test chain down

.PHONY: bench
bench: setup ## measure speed, memory and start-up beside the floor and the AWS sample (ROUNDS=3 SECONDS=2 for less)
	@$(PYTHON) -m pipeline train --keep
	@mkdir -p .local_test
	@$(PYTHON) -m tools.bench $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SECONDS),--seconds $(SECONDS)) \
	  --json .local_test/bench.json --picture .local_test/bench.svg

.PHONY: sbom audit
sbom: setup ## build the images and write what each is made of, as CycloneDX, to .local_test/sbom (IMAGES="featurizer" for some)
	@mkdir -p .local_test/sbom
	@for image in $(or $(IMAGES),featurizer predictor local_test pipeline); do \
	  docker build --quiet --file $$image/Dockerfile --tag serial-inference-sbom-$$image . >/dev/null \
	  && $(PYTHON) -m tools.sbom $$image serial-inference-sbom-$$image >.local_test/sbom/$$image.cdx.json \
	  && echo .local_test/sbom/$$image.cdx.json || exit 1; done

audit: setup ## ask whether what is locked has known vulnerabilities (CI=1: pass when nobody can be asked)
	@$(PYTHON) -m tools.audit $(if $(CI),--ci)

.PHONY: chaos soak
chaos: setup ## try every fault under load, and say which promise held (SCALE=0.05 for a short run, ONLY=NAME for one)
	@$(PYTHON) -m pipeline train --keep --out .local_test/chaos
	@$(PYTHON) -m tools.chaos --artifacts .local_test/chaos $(if $(SCALE),--scale $(SCALE)) $(if $(ONLY),--only $(ONLY)) \
	  --json .local_test/chaos.json --markdown .local_test/chaos.md

soak: setup ## serve for an hour with a fault a minute, and weigh what grows (SECONDS=600 for less)
	@$(PYTHON) -m pipeline train --keep --out .local_test/chaos
	@$(PYTHON) -m tools.chaos --artifacts .local_test/chaos --soak $(or $(SECONDS),3600) --json .local_test/soak.json

clean: ## remove what was installed and logged here; artifacts/ holds models, and stays
	@[ ! -x $(PYTHON) ] || $(PYTHON) -m local_test chain down
	@[ ! -x $(PYTHON) ] || $(PYTHON) -m local_test down
	@rm -rf .venv .venv-audit .local_test .mypy_cache .pytest_cache .ruff_cache
