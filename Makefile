# make test      what finds nearly everything, in about twenty minutes on two cores
# make test-all  the same, and the situations and parameters that rarely find what `make test` does not
# make build     notebooks and executed solutions from their masters;  make check  tells whether any has drifted
#
# What learning takes (lab, doctor, clean, the environment) stands in course.mk, which a class gets as its Makefile.

include course.mk

.PHONY: test test-all build check browser sandbox

# Two processes of one thread each: most tests are too small for two threads to help.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder

test: $(VENV)/.dev browser sandbox
	$(BIN)/ruff check .
	$(PYTEST) -m "not slow" $(ARGS)

test-all: $(VENV)/.dev browser sandbox
	$(BIN)/ruff check .
	$(PYTEST) --jaxtyping-packages=course_utils,classroom,beartype.beartype $(ARGS)

build: $(VENV)/.dev
	$(BIN)/python -m classroom build $(ARGS)

check: $(VENV)/.dev
	$(BIN)/python -m classroom build --check

$(VENV)/.dev: requirements-dev.txt requirements.txt pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -r requirements-dev.txt
	@touch $@ $(VENV)/.student

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
