# Two commands: `make demo` trains an agent on a sparse task, `make test` runs everything that CI runs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint types format clean

demo: $(VENV)/.core
	$(BIN)/cairn demo

test: lint types
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test .typing/cairn
	$(BIN)/mypy -p cairn
	$(BIN)/mypy --explicit-package-bases tests/typed_user.py

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python benchmarks/render_stubs.py

# The root of the repository is the package: mypy and pyright find it under its name through this link.
.typing/cairn:
	mkdir -p .typing
	ln -sfn .. .typing/cairn

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Cairn needs Python 3.11 or newer; say which one: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV) (a few minutes, once) ..."
	$(INSTALL) -e .
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV) (a few minutes, once) ..."
	$(INSTALL) -e ".[test]"
	@touch $@ $(VENV)/.core

clean:
	rm -rf $(VENV) .typing build *.egg-info
