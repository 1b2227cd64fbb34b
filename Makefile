# `make demo` and `make test` do all set-up on a machine with only Python 3.10+ and make.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python

.PHONY: demo demo-mri test test-slow test-campaign test-mutations lint bench clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "restill needs Python 3.10 or newer; set PYTHON=python3.x")'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[demo,mri,formats,dev]'
	@touch $@

demo: $(VENV)/.installed  ## handwritten digits, from noisy images to a one-step generator, in about 5 minutes
	$(VENV)/bin/restill run digits-noise --out demo

demo-mri: $(VENV)/.installed  ## undersampled k-space of four coils, to a one-step generator of complex images, in about 6 minutes
	$(VENV)/bin/restill run brain-mri-tiny --out demo-mri

test: $(VENV)/.installed  ## the fast test suite
	$(PY) -m pytest

test-slow: $(VENV)/.installed  ## trains on three seeds and more; takes an hour
	$(PY) -m pytest -m slow

test-mutations: $(VENV)/.installed  ## whether the tests notice some hundred subtle bugs, by area; takes half an hour
	$(PY) tests/mutations/driver.py $(AREAS)

test-campaign: $(VENV)/.installed  ## every command killed at every operation on files, full disks, damaged files; half an hour
	$(PY) -m pytest -m campaign

lint: $(VENV)/.installed  ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: $(VENV)/.installed  ## seconds per training step and images per second
	$(PY) bench/step.py --preset small

clean:  ## remove the environment and the demo's run
	rm -rf $(VENV) demo build
