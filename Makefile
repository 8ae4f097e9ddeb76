# make help         this text
# make quickstart   train and evaluate on a real graph of 117,659 nodes (installs into .venv first)
# make test         the test suite (some minutes)
# make check        the whole suite with its slow part, coverage, the wheel, the site (≤ 20 minutes)
# make docs         the site, into docs/_site/index.html (a minute); a warning is an error
# make gallery      the examples run again, their output kept in docs/gallery (some minutes)
# make lint         format, lint, import directions, types
# make bench        the benchmarks, into benchmarks/results/ (hours; what they need stands below)
# make format       put the code into its format
# make clean        remove .venv and caches
#
# PYTHON=python3.12         another interpreter (3.11 or newer)
# TORCH_INDEX=https://…     where to take PyTorch from, such as its CPU or CUDA index
# WORKERS=4                 how many processes share the tests: 2, if it is not said

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
WORKERS ?= 2
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

# In benchmarks names, imports and signatures are checked, not what may be None or of which union.
SCRIPTS := union-attr index arg-type assignment operator misc return-value var-annotated override

.PHONY: help quickstart test check docs gallery lint format bench clean
.DELETE_ON_ERROR:

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

quickstart: $(VENV)/.installed
	$(BIN)/python examples/quickstart.py

test: $(VENV)/.test
	$(BIN)/python -m pytest -n $(WORKERS)

check: $(VENV)/.test docs
	$(BIN)/python -m pytest -n $(WORKERS) -m "" --cov --cov-report=
	$(BIN)/python -m coverage report | tail -n 25

# What a page reads of the package is read anew: -E.
docs: $(VENV)/.docs
	@rm -rf docs/_site
	$(BIN)/python -m sphinx -q -E -n -W --keep-going docs docs/_site
	@echo "docs/_site/index.html"

gallery: $(VENV)/.docs
	$(BIN)/python docs/extension/gallery.py

lint: $(VENV)/.lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/mypy examples
	$(BIN)/mypy docs/extension
	$(BIN)/mypy benchmarks $(addprefix --disable-error-code ,$(SCRIPTS))

format: $(VENV)/.lint
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# In the order of their cost, from minutes to half an hour (benchmarks/README.md has the figures).
# Those from step_time.py on draw synthetic:amazon2m into GNNSCALE_CACHE: 1.4 GB of disk at scale 1.
# step_time.py goes without the peers that are not installed
# (pip install --no-build-isolation '.[peers]'). partition.py wants 9 GB of memory, for METIS.
# scaling.py goes up to scale 2; it and amazon2m.py keep their stores, as large again, in runs/.
bench: $(VENV)/.test
	$(BIN)/python benchmarks/main_job.py
	$(BIN)/python benchmarks/kernels.py
	$(BIN)/python benchmarks/step_time.py --scale 0.25
	$(BIN)/python benchmarks/calibration.py --scale 0.25
	$(BIN)/python benchmarks/partition.py --scale 1
	$(BIN)/python benchmarks/fault_campaign.py
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/amazon2m.py

clean:
	rm -rf $(VENV) .coverage docs/_site .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "gnnscale needs Python 3.11 or newer: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch first and alone: it is the large one, and TORCH_INDEX is for it.
$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) torch
	$(INSTALL) -e '.[plots]'
	@touch $@

$(VENV)/.test: $(VENV)/.installed
	$(INSTALL) -e '.[test]'
	@touch $@

$(VENV)/.docs: $(VENV)/.installed
	$(INSTALL) -e '.[docs]'
	@touch $@

$(VENV)/.lint: $(VENV)/.installed
	$(INSTALL) -e '.[test,lint]'
	@touch $@
