# The tasks of this project. CI calls `make test`; a developer calls the same.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.whyvae-installed

.PHONY: demo test test-all check

demo: $(STAMP)  ## the classic failures, diagnosed, on data that ships with the dependencies
	$(BIN)/whyvae demo

test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadgroup

test-all: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadgroup

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[test,dev]"
	touch $@
