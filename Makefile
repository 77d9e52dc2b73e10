# Each target sets up what it needs in .venv, with the versions of requirements.lock.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test lint types benchmark-accuracy clean

demo: $(READY)
	$(BIN)/trajpred demo --out demo
	$(BIN)/python -m trajpred_ros.demo demo

test: $(READY)
	$(BIN)/python -m pytest -n auto --dist loadgroup

benchmark-accuracy: $(READY)
	$(BIN)/python benchmarks/accuracy.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(READY)
	$(BIN)/mypy

$(READY): pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -q -c requirements.lock -e '.[train,viz,ros,dev]'
	$(BIN)/trajpred-interfaces
	touch $@

clean:
	rm -rf .venv build dist *.egg-info
