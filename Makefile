# `make run` shows the project working; `make test` is what CI runs. Both work offline once installed.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
# The first Python of version 3.11 or later, or nothing.
PYTHON := $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo $$p; break; }; done)
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-input -c constraints.txt

export HF_HUB_OFFLINE := 1
export HF_DATASETS_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false

# Test files are shared out among as many processes as there are cores, up to four.
SIDE_BY_SIDE := -n auto --maxprocesses 4 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help run test check pytest test-slow test-architectures test-versions test-oldest test-newest test-quantised \
	test-ray test-wheel test-faults fuzz coverage mutants notebooks docs clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "painters needs Python 3.11 or later; none of python3.11, python3.12, python3.13, python3 on the PATH is."; \
		echo "Install one, or put it first on the PATH, and run make again."; exit 1; fi
	@echo "Making a virtual environment in $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)

# The stamps make the second time quick: pip runs again only when what is to be installed has changed.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing painters and its dependencies into $(VENV) (minutes the first time)"
	@$(PIP) -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing painters with its development tools into $(VENV) (minutes the first time)"
	@$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.installed

run: $(VENV)/.installed  ## set up, then score the bundled model with its middle layers looped in parallel
	@echo "Running: painters run --variant parallel --loops 3"
	@echo "(the bundled nano-llama, its middle layers side by side three times over, scored on its five tasks)"
	@$(BIN)/painters run --variant parallel --loops 3

test: $(VENV)/.installed-dev  ## set up with the tools, then lint, types and tests
	@echo "Running: ruff and mypy, then the tests (some minutes)"
	@$(MAKE) --no-print-directory check
	@$(MAKE) --no-print-directory pytest

check: $(VENV)/.installed-dev  ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

pytest: $(VENV)/.installed-dev  ## the tests alone
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

test-slow: $(VENV)/.installed-dev  ## the tests that take more than a few seconds
	$(BIN)/python -m pytest -m slow

test-architectures: $(VENV)/.installed-dev  ## every model type of transformers, tiny, under every kind of plan
	@echo "Examining every model type (about five minutes of processor time; an interrupted run goes on where it was)"
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -m architectures

# The oldest is the one that pyproject.toml claims, the newest the one that the index has.
VERSIONS := build/versions
OLDEST := $(shell sed -n 's/.*"transformers>=\(.*\)".*/\1/p' pyproject.toml)

test-versions: test-oldest test-newest  ## the tests on the oldest transformers that is claimed, and on the newest

test-oldest: WANTED := transformers==$(OLDEST).*
test-newest: WANTED := transformers
test-oldest test-newest: test-%: $(BIN)/python
	@mkdir -p $(VERSIONS)
	@echo "Installing $(WANTED) into $(VERSIONS)/$* (minutes the first time)"
	@$(BIN)/python -m venv $(VERSIONS)/$*
	@grep -vE '^(transformers|tokenizers|huggingface_hub)==' constraints.txt > $(VERSIONS)/$*.txt
	@$(VERSIONS)/$*/bin/python -m pip install -qq --disable-pip-version-check --no-input --upgrade \
		--upgrade-strategy only-if-needed -c $(VERSIONS)/$*.txt -e '.[dev]' '$(WANTED)'
	@$(VERSIONS)/$*/bin/python -c "import transformers; print('The tests on transformers', transformers.__version__)"
	$(VERSIONS)/$*/bin/python -m pytest $(SIDE_BY_SIDE)

test-quantised: $(BIN)/python  ## the tests of weights in eight and four bits, with bitsandbytes
	@echo "Installing bitsandbytes beside the rest into build/quantised (minutes the first time)"
	@$(BIN)/python -m venv build/quantised
	@build/quantised/bin/python -m pip install -qq --disable-pip-version-check --no-input -c constraints.txt \
		-e '.[dev,quantised]'
	build/quantised/bin/python -m pytest tests/engine/test_quantised.py

test-ray: $(BIN)/python  ## the tests of sweeps over Ray, with actors on this machine
	@echo "Installing ray beside the rest into build/ray (minutes the first time)"
	@$(BIN)/python -m venv build/ray
	@build/ray/bin/python -m pip install -qq --disable-pip-version-check --no-input -c constraints.txt -e '.[dev,ray]'
	build/ray/bin/python -m pytest tests/sweep/test_ray.py tests/sweep/test_ray_command.py -m 'slow or not slow'

test-wheel: $(BIN)/python  ## build a wheel, install it into an empty environment, and use it from an empty folder
	@echo "Building a wheel and installing it into build/wheel (minutes the first time)"
	@rm -rf build/lib build/wheel/dist build/wheel/run && mkdir -p build/wheel/run
	@$(BIN)/python -m pip wheel -qq --disable-pip-version-check --no-input --no-deps --wheel-dir build/wheel/dist .
	@$(BIN)/python -m venv build/wheel/venv
	@build/wheel/venv/bin/python -m pip install -qq --disable-pip-version-check --no-input -c constraints.txt \
		--force-reinstall --no-deps build/wheel/dist/*.whl
	@build/wheel/venv/bin/python -m pip install -qq --disable-pip-version-check --no-input -c constraints.txt \
		build/wheel/dist/*.whl
	cd build/wheel/run && ../venv/bin/painters run --variant skip --limit 2 --quiet
	cd build/wheel/run && ../venv/bin/painters sweep fig4 --quick --plan-only --quiet
	cd build/wheel/run && ../venv/bin/painters export --variant skip --to short --quiet
	cd build/wheel/run && ../venv/bin/painters report runs --out report.html --quiet

test-faults: $(VENV)/.installed-dev  ## writers that are killed, sweeps that are stopped, damaged files, full disks
	@echo "Setting a store on fire (about 25 minutes on two cores; at most an hour)"
	PYTHONPATH=tests timeout 3600 $(BIN)/python -m faults

fuzz: $(VENV)/.installed-dev  ## random and hostile inputs; PARTS=plans, CASES=1000, TIME=60 (seconds a part), SEED=1
	@echo "Feeding random and hostile inputs (about half an hour of processor time; less with TIME= or CASES=)"
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -m fuzz $(PARTS) $(if $(CASES),--cases $(CASES)) \
		$(if $(TIME),--seconds $(TIME)) $(if $(SEED),--seed $(SEED))

coverage: $(VENV)/.installed-dev  ## the tests once more, and the lines and branches of painters that they miss
	@mkdir -p build/coverage
	@echo "Running: the tests under coverage (twice as long as without); fails where they miss more than 5 %"
	@$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q $(SIDE_BY_SIDE)
	@$(BIN)/coverage combine -q
	$(BIN)/coverage report

# MUTANTS="plan variants" tries these groups only, MUTANTS="engine --sample 300" some mutants of one.
mutants: $(BIN)/python  ## plant errors in the core and count those that the tests find (an hour or two)
	@echo "Installing mutmut beside the rest into build/mutation/venv (minutes the first time)"
	@$(BIN)/python -m venv build/mutation/venv
	@build/mutation/venv/bin/python -m pip install -qq --disable-pip-version-check --no-input -c constraints.txt \
		-e '.[dev]' mutmut
	build/mutation/venv/bin/python tests/mutation.py $(MUTANTS)

notebooks: $(VENV)/.installed-dev  ## run the notebooks and keep what they show
	$(BIN)/python tests/support/notebook_runs.py

build/docs/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing painters with mkdocs into build/docs (minutes the first time)"
	@$(BIN)/python -m venv build/docs
	@build/docs/bin/python -m pip install -qq --disable-pip-version-check --no-input -c constraints.txt -e '.[docs]'
	@touch $@

docs: build/docs/.installed  ## build the documentation into build/site; once installed, without network
	@NO_MKDOCS_2_WARNING=1 build/docs/bin/python -m mkdocs build --strict  # with --quiet it would hear no warning
	@echo "The documentation is in build/site: open build/site/index.html"

clean:  ## remove the environment, caches and build leftovers
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
