# Two commands need nothing but Python: `make demo` and `make test`. Each makes what it needs in .venv first.
#
# PyTorch is pinned to one build here, so that every contributor and CI test the same numbers; users bring their own
# (pyproject.toml takes a range). TORCH_INDEX names the index to take it from, such as
# https://download.pytorch.org/whl/cpu, whose build for Linux is 190 MB; the one of PyPI brings CUDA, several GB. For
# whatever your package index has: make demo TORCH=torch
PYTHON ?= python3
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
BIN := .venv/bin

.PHONY: demo test check lint types slow bench clean

demo: .venv/installed
	$(BIN)/sdedit run presets/strokes/apple.png --preset drawing-apple -o out/apple.png --on-exists overwrite
	@echo "Before: presets/strokes/apple.png"
	@echo "After:  out/apple.png"

test: .venv/tested
	$(BIN)/python -m pytest -n auto --maxprocesses 4

check: lint types test

lint: .venv/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/tested
	$(BIN)/pyright --pythonpath $(BIN)/python

slow: .venv/tested
	$(BIN)/python -m pytest -m slow -n auto --maxprocesses 4

# Some topics alone: make bench ROWS="startup cpu-bf16"; benchmarks/README.md lists them.
bench: .venv/tested
	$(BIN)/python -m pip install --quiet -e ".[bench]"
	$(BIN)/python -m benchmarks $(ROWS) --model .venv/bench-model --save

.venv/torch: Makefile
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$(TORCH)"
	@touch $@

.venv/installed: .venv/torch pyproject.toml
	$(BIN)/python -m pip install --quiet -e .
	@touch $@

.venv/tested: .venv/installed
	$(BIN)/python -m pip install --quiet -e ".[test]"
	@touch $@

clean:
	rm -rf .venv build dist *.egg-info out
