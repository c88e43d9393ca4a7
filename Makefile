# make lab     everything it takes to learn: environment, pinned packages, JupyterLab on notebook 00
# make test    everything it takes to check: the same, and what tests and authors need
# Both start from nothing but Python 3.11 (or newer), git and make; a second run skips what is there.

VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help lab test build check doctor browser sandbox clean

help:
	@sed -n '1,3s/^# //p' Makefile

lab: $(VENV)/.student
	@$(BIN)/jupyter lab $(LAB) notebooks/00_start_here.ipynb

# Two processes of one thread each: most tests are too small for two threads to help.
test: $(VENV)/.dev browser sandbox
	$(BIN)/ruff check .
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup $(ARGS)

build: $(VENV)/.dev
	$(BIN)/python -m course_utils build $(ARGS)

check: $(VENV)/.dev
	$(BIN)/python -m course_utils build --check

doctor: $(VENV)/.student
	@$(BIN)/python -m course_utils doctor

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache *.egg-info

# A stamp is newer than what it was made from, or pip runs again (and finds most of it there).
$(VENV)/.student: requirements.txt pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt requirements.txt pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	@touch $@ $(VENV)/.student

# The first Python that is new enough and can make an environment; Debian keeps `venv` in a package of its own.
$(BIN)/python:
	@for python in $(PYTHON) python3 python3.13 python3.12 python3.11 python; do \
	    command -v $$python >/dev/null 2>&1 || continue; \
	    $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	    $(MAKE) --no-print-directory venv-for-$$(basename $$python) BASE="$$(command -v $$python)" && exit 0; \
	done; \
	echo "No Python that can be used: the course needs Python 3.11 or newer with its venv module." >&2; \
	echo "Found: $$(python3 --version 2>&1). Install one, or say which: make lab PYTHON=/path/to/python3.12" >&2; \
	exit 1

venv-for-%:
	@echo "Making the environment $(VENV) with $$($(BASE) --version)"
	@$(BASE) -m ensurepip --version >/dev/null 2>&1 || $(call apt,$*-venv) || true
	@$(BASE) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# The browser test drives a Chromium. Where there is none and we may, install Debian's; else the test says why it skips.
browser:
	@for name in chromium chromium-browser google-chrome; do command -v $$name >/dev/null 2>&1 && exit 0; done; \
	$(call apt,chromium) || { \
	    echo "No Chromium, and it cannot be installed from here: the browser test will be skipped, with this reason."; \
	    [ -z "$$CI" ]; }

# The grader runs answers behind bubblewrap, which exists on Linux only.
sandbox:
	@command -v bwrap >/dev/null 2>&1 || $(call apt,bubblewrap) || { \
	    echo "No bubblewrap, and it cannot be installed from here: the tests of the grader will be skipped, with this reason."; \
	    [ -z "$$CI" ]; }

# $(call apt,PACKAGE): install a Debian package as root, or with sudo if that asks for no password; false if neither.
define apt
{ command -v apt-get >/dev/null 2>&1 && { \
    if [ "$$(id -u)" = 0 ]; then SUDO=; else SUDO="sudo -n"; $$SUDO true 2>/dev/null; fi && \
    echo "Installing the Debian package $(1)" && \
    { $$SUDO apt-get install -y -qq $(1) >/dev/null 2>&1 || \
      { $$SUDO apt-get update -qq && $$SUDO apt-get install -y -qq $(1); } >/dev/null 2>&1; }; }; }
endef
