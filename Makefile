# `make help` lists the targets.
VENV ?= .venv
PYTHON ?= python3
TORCH_INDEX ?=   # a package index with CPU-only builds of torch, for those who do not want the CUDA wheels
RUN := $(VENV)/bin/python run.py
# A process a core, of one thread: threads that wait for each other across processes take many times as long.
PYTEST := OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal
DEMO := outputs/demo
DRAWN := data=synthetic data.source=$(DEMO)/pictures
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo sweep serve test test-fast lint format tensorboard lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(INSTALLED)  ## make the environment; TORCH_INDEX=URL takes torch from another package index

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(if $(strip $(TORCH_INDEX)),$(VENV)/bin/pip install --quiet -c constraints.txt --index-url $(strip $(TORCH_INDEX)) torch torchvision)
	$(VENV)/bin/pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup  ## train, index and search on pictures that the project draws (no download), in a few minutes
	$(RUN) task=classify $(DRAWN) task.epochs=40 data.batch_size=32 hydra.run.dir=$(DEMO)/classify
	$(RUN) task=triplet $(DRAWN) task.epochs=8 task.match_precision=0.75 task.pretrained=$(DEMO)/classify hydra.run.dir=$(DEMO)/triplet
	$(RUN) task=export encoder=$(DEMO)/triplet hydra.run.dir=$(DEMO)/export
	$(RUN) task=index $(DRAWN) encoder=$(DEMO)/triplet/bundle catalog=$(DEMO)/catalog rebuild=true hydra.run.dir=$(DEMO)/index
	$(RUN) task=search catalog=$(DEMO)/catalog query='$(DEMO)/pictures/test/*/*_0.jpg' rows=10 hydra.run.dir=$(DEMO)/search
	@echo "Open $(DEMO)/search/results.html, or look at $(DEMO)/search/results.png; make serve shows it as a web page."

sweep: setup  ## three sizes × two seeds on drawn pictures, and the table that compares them
	$(RUN) -m task=classify $(DRAWN) model=tiny,small,base seed=1,2 task.epochs=10 data.batch_size=32 sweep_name=demo
	$(RUN) task=runs folder=outputs/sweeps/demo

serve: setup  ## the demo's catalogue as a web page, at http://127.0.0.1:8000
	$(RUN) task=serve catalog=$(DEMO)/catalog

test: lint  ## lint, format and type checks, then the whole suite
	$(PYTEST)

test-fast: setup  ## the suite without its slow tests
	$(PYTEST) -m 'not slow'

lint: setup  ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: setup  ## let ruff mend what it can
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

tensorboard: setup  ## watch all runs
	$(VENV)/bin/tensorboard --logdir outputs

lock:  ## write constraints.txt anew (needs uv)
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url --upgrade -o constraints.txt

clean:  ## remove caches; outputs and the environment stay
	rm -rf .mypy_cache .pytest_cache .ruff_cache build *.egg-info src/*.egg-info
	find src tests -name __pycache__ -type d -exec rm -rf {} +
