# Two commands: `make book` and `make test`. Both set everything up first.
#   DATA=DIR       the photos (default: WBC_DATA, the user cache, a download; else phantoms)
#   PROFILE=NAME   smoke | quick | paper
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
WBC    := $(BIN)/wbc

# The shell reads them from its environment, where a space or a quote in one does no harm.
export DATA PROFILE TORCH
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: book test test-slow bench lint format lock clean

book: $(VENV)/ready
	@$(WBC) book $${DATA:+--data "$$DATA"} $${PROFILE:+--profile "$$PROFILE"}

# Each file is for one of two workers: what it makes once serves all of its tests.
test: $(VENV)/ready
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-slow: $(VENV)/ready
	@$(BIN)/python -m pytest -m slow

# Leave the machine idle.
bench: $(VENV)/ready
	@$(BIN)/python benchmarks/measure.py --record $${DATA:+--data "$$DATA"}

lint: $(VENV)/ready
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/mypy
	@rm -rf _build/chapters
	@$(BIN)/jupyter nbconvert --log-level ERROR --to python --output-dir _build/chapters book/*.ipynb
	@$(BIN)/vulture
	@$(BIN)/nbstripout --verify book/*.ipynb

format: $(VENV)/ready
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/nbstripout book/*.ipynb

# Needs uv; run after changing the dependencies in pyproject.toml.
lock:
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
	    --generate-hashes --no-emit-index-url --no-emit-find-links --no-header -o requirements.lock

clean:
	rm -rf _build .pytest_cache .ruff_cache .mypy_cache .hypothesis

# The environment is ready once this file is newer than what it was made from.
$(VENV)/ready: requirements.lock pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; try make PYTHON=python3.12")'
	@echo "Setting up $(VENV) (once; about 2 GB, a few minutes)"
	@"$(PYTHON)" -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@
