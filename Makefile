# Two commands do everything on a bare machine with Python 3.11 or newer:  make demo  and  make test
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
QUICKSTART := examples/quickstart
WORKERS ?= auto

.PHONY: demo test lint types check clean

demo: $(VENV)/.demo-ready  ## the whole road on the quickstart rows, offline: raw Parquet in, a model that answers out
	$(BIN)/datakit run $(QUICKSTART)/pipeline.yaml

test: $(VENV)/.dev-ready  ## all tests, in several processes (one:  make test WORKERS=0)
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal $(PYTEST_ARGS)

lint: $(VENV)/.dev-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev-ready
	$(BIN)/mypy

check: lint types test

clean:  ## what the demo made; the installation stays
	rm -rf $(QUICKSTART)/work $(QUICKSTART)/models $(QUICKSTART)/saves $(QUICKSTART)/.datakit

$(VENV)/.demo-ready: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing (once; a few minutes) …"
	$(PIP) --editable ".[train,augment]"
	@touch $@

$(VENV)/.dev-ready: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing (once; a few minutes) …"
	$(PIP) --editable ".[train,augment,dev]"
	@touch $@ $(VENV)/.demo-ready

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name one:  make demo PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
