# Every target sets up what it needs. PYTHON and PROFILE can be given: make study PROFILE=smoke
PYTHON ?= python3
PROFILE ?= laptop
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
NOTEBOOKS := $(sort $(wildcard notebooks/[0-9]*.ipynb))

.DEFAULT_GOAL := help
.PHONY: help study test lab check report bench clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

study: $(READY) ## run every notebook headless (PROFILE=laptop); what was trained before is read
	$(BIN)/python -m lib.batch $(NOTEBOOKS) -p profile $(PROFILE)

test: $(READY) ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

lab: $(READY) ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab notebooks

check: $(READY) ## lint the code and the notebooks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

report: study ## the executed notebooks as HTML pages in data/reports
	$(BIN)/jupyter nbconvert --to html --output-dir data/reports/$(PROFILE) data/executed/$(PROFILE)/[0-9]*.ipynb

bench: $(READY) ## pairs a second in training and scoring, beside sentence-transformers
	$(BIN)/python -m tests.bench_speed

clean: ## remove everything the kit has built in data/, trained runs included
	find data -mindepth 1 -not -name README.md -delete

# An environment is ready when everything in it installed; a broken one is made anew.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than Python 3.11; give a newer one: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	rm -f $@
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
