# usersim: `make run` sets up and simulates; `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check

# Why llama.cpp is built with flags of its own: GCC takes the writes into the tile configuration of AMX for dead stores and drops them
# (llama.cpp's pull request 26954), and every quantised model then dies of an illegal instruction on Intel processors since Sapphire Rapids.
# Without that optimisation the same code works; elsewhere it is neither needed nor slower. Compilers that do not know the flags go without.
DSE := -fno-tree-dse -fno-dse
FLAGS := $(shell printf '' | $${CXX:-c++} $(DSE) -Werror -x c++ -c -o /dev/null - 2>/dev/null && echo "$(DSE)")
LLAMA := $(subst _,-,$(shell grep '^llama_cpp_python==' constraints.txt))
# The wheel belongs to this compiler and processor, and pip would take an old one whatever the flags say, so it is kept under a key of ours.
KEY := $(shell { echo "$(LLAMA) $(FLAGS)"; $(PYTHON) -VV; $${CXX:-c++} --version; grep -m1 '^flags' /proc/cpuinfo || uname -mp; } 2>/dev/null | cksum | cut -d' ' -f1)
WHEELS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/usersim/wheels/$(KEY)

.DEFAULT_GOAL := help
.PHONY: help setup wheels run test libraries check format bench fuzz clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "usersim needs Python 3.11 or newer; this is %s. Try: make PYTHON=python3.11 ..." % sys.version.split()[0])'
	@echo "Setting up $(VENV); llama-cpp-python is compiled, which takes about five minutes the first time."
	$(PYTHON) -m venv $(VENV)
	@ls '$(WHEELS)'/*.whl >/dev/null 2>&1 || CMAKE_ARGS="-DCMAKE_C_FLAGS='$(FLAGS)' -DCMAKE_CXX_FLAGS='$(FLAGS)'" \
		$(PIP) wheel --quiet --no-cache-dir --no-deps --no-binary llama-cpp-python --wheel-dir '$(WHEELS)' '$(LLAMA)'
	$(PIP) install --quiet --constraint constraints.txt --find-links '$(WHEELS)' '$(WHEELS)'/*.whl
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

setup: $(STAMP) ## create the environment

wheels: $(STAMP) ## print the folder with the wheel of llama-cpp-python that was built for this machine
	@echo '$(WHEELS)'

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

fuzz: $(STAMP) ## try 1,000 mutated data files, 500 damaged runs, 500 configurations, 200 liars, 102 kills and 22 variants of one run
	USERSIM_FUZZ=1000 USERSIM_FUZZ_RUNS=500 USERSIM_FUZZ_CONFIGURATIONS=500 USERSIM_FUZZ_LIES=200 USERSIM_KILLS=34 \
		$(BIN)/python -m pytest -q -o timeout=0 tests/fuzz tests/experiments/test_variants_of_one_run.py

clean: ## remove the environment and caches
	rm -rf $(VENV) .venv-lenskit .venv-rectools dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
