# usersim: `make run` sets up and simulates; `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup run test libraries check format bench fuzz clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "usersim needs Python 3.11 or newer; this is %s. Try: make PYTHON=python3.11 ..." % sys.version.split()[0])'
	@echo "Setting up $(VENV); llama-cpp-python is compiled, which takes about five minutes the first time."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

setup: $(STAMP) ## create the environment

run: $(STAMP) ## simulate MovieLens-100K people: data, model, run, report
	@$(BIN)/usersim data get ml-100k
	@$(BIN)/usersim models get smollm2-135m-instruct
	@$(BIN)/usersim run movielens

test: $(STAMP) ## run the tests
	$(BIN)/python -m pytest -q

# They want an older pandas than we have, so each gets an environment of its own.
libraries: ## test the adapters to LensKit and RecTools with these libraries
	for wanted in "lenskit==2025.8.1 implicit torch==2.13.0" "rectools==0.19.0"; do \
		place=.venv-$${wanted%%==*}; \
		$(PYTHON) -m venv $$place && \
		$$place/bin/python -m pip install --quiet --disable-pip-version-check $$wanted polars pydantic mesa psutil pytest pytest-timeout hypothesis && \
		$$place/bin/python -m pytest -q -p no:cacheprovider tests/environments/recommenders/test_libraries.py || exit 1; \
	done

check: $(STAMP) ## ruff, mypy (strict), import-linter
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(STAMP) ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP) ## run the benchmarks; results go to results/benchmarks/
	$(BIN)/usersim benchmark inference

fuzz: $(STAMP) ## try 1,000 mutated data files; `make test` tries 200
	USERSIM_FUZZ=1000 $(BIN)/python -m pytest -q tests/fuzz

clean: ## remove the environment and caches
	rm -rf $(VENV) .venv-lenskit .venv-rectools dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
