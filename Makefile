# Two commands for everyone: `make demo` and `make test`. Contributors: `make check`, `make bench`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

DEMO_IMAGES ?= 800

# On Linux the usual wheel of torch brings CUDA, several GB. Asked for, torch and torchvision are installed first, as a
# pair, and from elsewhere; what comes after finds them and leaves them:
#   TORCH=cpu        by uv, which knows where torch keeps the wheels of each backend (cpu, cu126, ...)
#   TORCH_INDEX=URL  by pip, from the index that torch's installation page names behind --index-url, or a mirror of it
TORCH       ?=
TORCH_INDEX ?=
UV          := $(BIN)/python -m pip install --quiet 'uv>=0.7.14' && $(BIN)/uv pip install --quiet --python $(BIN)/python
PAIR        := torch torchvision
ifneq ($(TORCH_INDEX),)
INSTALL_PAIR := $(BIN)/python -m pip install --quiet --index-url '$(TORCH_INDEX)' $(PAIR)
else ifneq ($(TORCH),)
INSTALL_PAIR := $(UV) --torch-backend '$(TORCH)' $(PAIR)
endif

# A worker for each core, and one thread in each; a file's tests stay in one worker (tests/conftest.py). Hundreds of
# processes import dvme: where bytecode is not kept, each of them compiles it.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=
PYTEST     := $(ONE_THREAD) $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadgroup --no-loadscope-reorder

.PHONY: help demo test test-all durations check lint types layers format bench clean
help:
	@echo "make demo    real images, real backbones, an honest table and a report   (DEMO_IMAGES=all: every image)"
	@echo "             TORCH=cpu spares a machine without a GPU the gigabytes of CUDA, the first time"
	@echo "make test    the test suite"
	@echo "make check   what CI runs: lint, types, layers, tests"
	@echo "make test-all    with the long forms of campaigns, drags and trainings;  make durations: what takes how long"
	@echo "make bench   the benchmarks and the full reliability campaigns"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "dvme needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.torch: | $(BIN)/python
	$(INSTALL_PAIR)
	@touch $@

# One stamp per extra, so that `make demo` does not install the developers' tools.
$(VENV)/.demo $(VENV)/.dev: $(VENV)/.%: pyproject.toml | $(BIN)/python $(if $(INSTALL_PAIR),$(VENV)/.torch)
	@echo "installing into $(VENV)$(if $(INSTALL_PAIR),,: several GB, most of it torch, a few minutes the first time)"
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	@touch $@

demo: $(VENV)/.demo
	$(BIN)/dvme demo .demo --images $(DEMO_IMAGES)

test: $(VENV)/.dev
	$(PYTEST)

test-all: $(VENV)/.dev
	DVME_CAMPAIGN=full $(PYTEST) -m "not gpu and not bench"

durations: $(VENV)/.dev
	-$(PYTEST) --junit-xml .durations.xml
	$(BIN)/python tests/durations.py .durations.xml tests/DURATIONS.md

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

layers: $(VENV)/.dev
	$(BIN)/lint-imports

check: lint types layers test

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev
	DVME_CAMPAIGN=full $(BIN)/python -m pytest tests/benchmarks tests/reliability -m "bench or not gpu" -o addopts="--import-mode=importlib" --capture=no --quiet
	DVME_CAMPAIGN=full $(PYTEST) -m slow

clean:
	rm -rf $(VENV) .demo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .durations.xml build dist
