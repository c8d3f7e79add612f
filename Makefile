# make demo   install, fetch SmolLM2-135M, then support triage from nothing to the report (runs/demo)
# make test   install with the tools of the gate, then lint, types and the tests of the gate
# make test-all   the same with every test: all architectures, documents, examples, recipe and benchmarks
# VENV=DIR uses another virtual environment than .venv; PYTHON=... another interpreter to make it with.

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
EXAMPLE := examples/support-triage

.PHONY: demo test test-all lint

# Its looks at the sealed test are not recorded among the user's.
demo: export FINETOOTH_STATE = $(CURDIR)/runs/state
demo: $(VENV)/.finetooth-installed
	@task=task.yaml; $(BIN)/finetooth models get smollm2-135m || { task=milktooth.yaml; \
	  echo "SmolLM2-135M cannot be had here: the demo runs with milktooth, the small embedded model." >&2; }; \
	$(BIN)/finetooth run $(EXAMPLE)/$$task --out runs/demo

# Two workers of one thread: as many as the smallest machine of the gate has cores.
# Compiled modules are kept whatever the environment says: a hundred processes would compile everything again.
PYTEST := PYTHONDONTWRITEBYTECODE= HF_HUB_OFFLINE=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal --durations=10

test: lint
	$(PYTEST)

test-all: lint
	$(PYTEST) -m ''

lint: $(VENV)/.finetooth-dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A stamp beside what was installed: a second call installs again only when the requirements have changed.
$(VENV)/.finetooth-installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e .
	touch $@

$(VENV)/.finetooth-dev-installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e '.[dev]'
	touch $@ $(VENV)/.finetooth-installed
