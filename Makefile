# Two commands for users: `make demo` and `make test`. Both set up .venv with the versions of constraints.txt.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint types check clean

demo: $(VENV)/.demo
	BIN=$(BIN) sh examples/digits/demo.sh

test: $(VENV)/.dev
	$(BIN)/python -m pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The checker has to find the package under its own name, whatever the folder of the checkout is called.
types: $(VENV)/.dev
	mkdir -p $(VENV)/types && ln -sfn "$(CURDIR)" $(VENV)/types/tersor
	$(BIN)/pyright --pythonpath $(BIN)/python

check: test lint types

clean:
	rm -rf $(VENV) out build dist *.egg-info .pytest_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python constraints.txt pyproject.toml
	$(INSTALL) torch==2.13.0
	$(INSTALL) -e '.[torch]'
	touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(INSTALL) -e '.[torch,test,dev,interop]'
	touch $@
