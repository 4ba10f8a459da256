# Every target sets up what it needs. Variables for most targets: PYTHON, PROFILE (make study PROFILE=smoke), STUDY_DATA,
# EXTRAS (groups of pyproject.toml that a new environment has).
# Variables for one target each: BATCH (options of the study, such as --engine ray), TESTS (pytest options), LAB
# (JupyterLab options), SIZE (of the benchmark), FIGURES, TABLE and QUESTIONS (of the evening), LEARNERS (folder of the copies).
PYTHON ?= python3
PROFILE ?= laptop
EXTRAS ?= dev
FIGURES ?= figures
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
NOTEBOOKS := $(sort $(wildcard notebooks/[0-9]*.ipynb))
# What the study's own question does not need: ablations, speed, the explorer, more ways to teach, other texts.
BREADTH := $(filter $(patsubst %,notebooks/%_%,10 11 13 15 16 17),$(NOTEBOOKS))

# Notebooks run in their own folder, so a relative data folder is made absolute here.
ifneq ($(STUDY_DATA),)
ifeq ($(filter /%,$(firstword $(STUDY_DATA))),)
override STUDY_DATA := $(CURDIR)/$(STUDY_DATA)
endif
export STUDY_DATA
endif
DATA := $(or $(STUDY_DATA),data)

# How long a thread of torch waits busily for the others. Beside another process that takes a core, training took nine
# times as long as alone with GNU OpenMP's own number, ten times this, and four times with this one, which costs nothing
# on an idle machine.
export GOMP_SPINCOUNT ?= 30000

.DEFAULT_GOAL := help
.PHONY: help study breadth plan test lab learners check report slides figures laptop-only evening bench clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

study: $(READY) ## run the notebooks headless (PROFILE=laptop), without those of `breadth`; what is trained already is reused
	$(BIN)/python -m lib.study.batch $(filter-out $(BREADTH),$(NOTEBOOKS)) -p profile $(PROFILE) $(BATCH)

breadth: $(READY) ## run the other notebooks: ablations, speed, the explorer, other collections, more ways to teach
	$(BIN)/python -m lib.study.batch $(BREADTH) -p profile $(PROFILE) $(BATCH)

plan: $(READY) ## print what study and breadth would train, fetch and cost, and what is there; nothing runs, nothing is fetched
	HF_HUB_OFFLINE=1 $(BIN)/python -m lib.study.plan $(PROFILE) $(NOTEBOOKS)

test: $(READY) ## run the tests
	@# Three at a time on two cores: some wait for processes that they have started.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 3 --dist loadfile $(TESTS)

lab: $(READY) ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab notebooks $(LAB)

learners: $(READY) ## write copies of the notebooks without the solutions of the exercises into notebooks/learners
	$(BIN)/python -m lib.exercises.learners $(if $(LEARNERS),--out "$(LEARNERS)")

check: $(READY) ## lint the code and the notebooks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

report: study ## run the study, then write all executed notebooks as a site into data/reports; it needs no network
	$(BIN)/python -m lib.study.site $(PROFILE)

slides: study ## run the study, then write all executed notebooks as slides into data/slides; they need no network
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps sphinx-revealjs
	$(BIN)/python -m lib.study.site $(PROFILE) --slides

figures: laptop-only study breadth ## run study and breadth, then copy their figures and tables into the README's
	mkdir -p "$(FIGURES)/tables"
	cp "$(DATA)/figures/$(PROFILE)"/*.png "$(FIGURES)"
	cp "$(DATA)/figures/$(PROFILE)"/*.csv "$(DATA)/figures/$(PROFILE)"/*.md "$(FIGURES)/tables"
	$(BIN)/python -m lib.study.copies "$(PROFILE)" "$(FIGURES)"
	test "$(abspath $(FIGURES))" != "$(abspath figures)" || $(BIN)/python -m lib.study.readme

laptop-only:
	@test "$(PROFILE)" = laptop || test "$(abspath $(FIGURES))" != "$(abspath figures)" || \
	  { echo "error: figures/ shows the laptop profile; give another folder: make figures PROFILE=$(PROFILE) FIGURES=..."; exit 1; }

evening: $(READY) ## compute what the table of five seeds lacks, for hours; stopped, it goes on from there another time
	$(BIN)/python -m lib.study.evening --profile $(PROFILE) $(if $(TABLE),--out "$(TABLE)") $(if $(QUESTIONS),--questions $(QUESTIONS))

bench: $(READY) ## pairs per second in training and scoring, next to sentence-transformers, ONNX Runtime and OpenVINO
	@$(BIN)/python -c 'import onnxruntime, openvino' 2>/dev/null || \
	  $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[onnx]'
	$(BIN)/python -m benchmarks.speed $(addprefix --size ,$(SIZE))

# What data/README.md lists; of the collections only copies, whose names end in a hash, and not your own.
clean: ## remove what the kit has built in data/ or STUDY_DATA, trained models included; your own collections stay
	@for kind in $$(sed -n 's!^| \([a-z0-9_/, ]*/\) |.*!\1!p' data/README.md | tr -d ,); do \
	  if [ $$kind != collections/ ]; then rm -rf "$(DATA)/$$kind"; \
	  elif [ -d "$(DATA)/$$kind" ]; then find "$(DATA)/$$kind" -mindepth 1 -maxdepth 1 \
	    \( -name '*-????????????????' -exec test -e '{}/manifest.json' ';' -o -name '.*' \) -exec rm -rf '{}' +; fi; \
	done

# The environment is ready once everything in it is installed; a broken one is created again.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than Python 3.11; give a newer one: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	rm -f $@
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@$(BIN)/python -W ignore -c 'import jupyterlab, transformers.modeling_utils, lib.study.tables'  # compiles what is used, not all
	touch $@
