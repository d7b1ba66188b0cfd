# make setup   an environment in .venv, with the versions of constraints.txt    make test   the tests
#              (`make demo` sets up what it needs itself, without the tools of the tests)
# make demo    the whole road on a phantom hospital, written to runs/demo       make lint   style, types, import directions
#
# Needs Python 3.11 or newer, git and make. Choose a Python with `make PYTHON=/path/to/python setup`.

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,\
	$(shell $(name) -c 'import sys; print("$(name)" if sys.version_info >= (3, 11) else "")' 2>/dev/null)))
TORCH_CPU_INDEX ?=
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)
BIN := .venv/bin
READY := .venv/.ready
TOOLS := .venv/.tools
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt

.PHONY: setup demo test lint docs clean

setup: $(TOOLS)
	@echo "make setup: done. Next: make demo, or $(BIN)/medvlm --help"

# compat: a plain path entry. With the default import hook, any folder called `reports` in the working directory would win.
# Where there is no GPU, the CPU build of torch (0.2 GB) is taken where an index offers it. Some offer only the default
# one (3 GB and more): then name the index of CPU builds of the torch project, make TORCH_CPU_INDEX=… setup.
$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "make setup: no Python 3.11 or newer found; try make PYTHON=/path/to/python setup"; exit 2; }
	@echo "setting up: 1 of 3, environment in .venv with $(PYTHON)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "setting up: 2 of 3, torch $(TORCH)"
	@if [ "$$(uname -s)" != Linux ] || nvidia-smi -L >/dev/null 2>&1; then $(PIP_INSTALL) torch==$(TORCH); \
	else $(PIP_INSTALL) $(if $(TORCH_CPU_INDEX),--extra-index-url $(TORCH_CPU_INDEX)) torch==$(TORCH)+cpu 2>/dev/null \
		|| { echo "make setup: no +cpu build within reach, taking torch $(TORCH) as it comes"; $(PIP_INSTALL) torch==$(TORCH); }; fi
	@echo "setting up: 3 of 3, medvlm and what it needs (about a minute)"
	@$(PIP_INSTALL) --config-settings editable_mode=compat --editable .
	@touch $(READY)

$(TOOLS): $(READY)
	@echo "setting up the tools of the tests, and every optional part that they try (about a minute)"
	@$(PIP_INSTALL) --config-settings editable_mode=compat --editable '.[dev]'
	@touch $(TOOLS)

# Large tensors are reused rather than handed back to the system after every step: a quarter less time where that is slow.
demo: export MALLOC_MMAP_MAX_ = 0
demo: export MALLOC_TRIM_THRESHOLD_ = 8589934592
demo: $(READY)
	$(BIN)/medvlm demo runs/demo

test: $(TOOLS)
	$(BIN)/python -m pytest

lint: $(TOOLS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

docs: $(TOOLS)
	$(BIN)/python -m medvlm.manual . $(CARD)
	$(BIN)/jupytext --update --to ipynb notebooks/road.py

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.git/*' -exec rm -rf {} +
