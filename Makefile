# Two commands: `make quickstart` shows the whole job, `make test` proves it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Nothing here needs a model hub; without this, look-ups wait for a time-out where there is none.
export HF_HUB_OFFLINE = 1

.PHONY: quickstart test lint docs clean

quickstart: $(VENV)/.offline
	PATH="$(CURDIR)/$(BIN):$$PATH" bash examples/01_quickstart.sh

# The tests' models are tiny: one thread is faster for them than two that wait for each other. Many
# tests wait for the disk, so there is one worker more than cores.
WORKERS := $(shell n=$$(nproc 2> /dev/null || echo 2); [ $$n -lt 4 ] && echo $$((n + 1)) || echo 4)
test: export OMP_NUM_THREADS = 1
test: $(VENV)/.test lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Broken links and anchors are errors.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.offline: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[offline,serve]'
	touch $@

$(VENV)/.test: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[offline,test]'
	touch $@

$(VENV)/.docs: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) .quickstart build dist *.egg-info
