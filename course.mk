# make lab       everything it takes to learn: environment, pinned packages, JupyterLab on the first notebook
# make doctor    what this machine has, and what to do about what it lacks
# make clean     removes the environment; the next `make lab` makes it again
#
# Needed: make and Python 3.11 (or newer), nothing else. A second run skips what is there.
# A class gets this file as its Makefile; the course's own Makefile includes it.

VENV := .venv
BIN := $(VENV)/bin
KERNELS := $(VENV)/etc/ipython/ipython_kernel_config.py
FIRST = $(firstword $(sort $(wildcard notebooks/*.ipynb)))
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help lab doctor clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' $(MAKEFILE_LIST)

lab: $(VENV)/.student $(KERNELS)
	@$(BIN)/jupyter lab --ServerApp.root_dir=. $(LAB) $(or $(FIRST),.)

doctor: $(VENV)/.student
	@$(BIN)/python -m course_utils doctor

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache *.egg-info

# A stamp is newer than what it was made from, or pip runs again (and finds most of it there).
$(VENV)/.student: requirements.txt pyproject.toml | $(BIN)/python
	@echo "Installing what requirements.txt names. The first time takes minutes: PyTorch alone is hundreds of megabytes."
	$(BIN)/python -m pip install -r requirements.txt
	@touch $@

# Every kernel of this environment loads `classroom`, so that one which was restarted can say what to do.
$(KERNELS): | $(BIN)/python
	@mkdir -p $(@D)
	@echo 'c.InteractiveShellApp.extensions.append("classroom")' > $@

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

# $(call apt,PACKAGE): install a Debian package as root, or with sudo if that asks for no password; false if neither.
define apt
{ command -v apt-get >/dev/null 2>&1 && { \
    if [ "$$(id -u)" = 0 ]; then SUDO=; else SUDO="sudo -n"; $$SUDO true 2>/dev/null; fi && \
    echo "Installing the Debian package $(1)" && \
    { $$SUDO apt-get install -y -qq $(1) >/dev/null 2>&1 || \
      { $$SUDO apt-get update -qq && $$SUDO apt-get install -y -qq $(1); } >/dev/null 2>&1; }; }; }
endef
