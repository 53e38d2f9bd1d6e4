# make demo: install, watch a model learn to reason, and be told how to talk to it (about a quarter of an hour).
# make test: lint, types and the test suite.     make clean: remove what these two installed.
# Another Python than python3: PYTHON=python3.12 make demo. A smaller PyTorch, for Linux without a GPU:
# make demo TORCH='torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu'

PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
RUN := runs/r1-zero

.PHONY: demo test clean smollm2

demo: $(VENV)/installed
	$(BIN)/longjing run r1-zero --out $(RUN) --page
	@echo
	@echo "What it learned:  open $(RUN)/report.html in a browser"
	@echo "Talk to it:       $(BIN)/longjing chat $(RUN), or longjing serve $(RUN) r1"

# The tests of a real model want its file; without a network they are skipped.
test: $(VENV)/installed-dev
	-$(BIN)/longjing fetch smollm2
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile --durations 20

smollm2: $(VENV)/installed
	$(BIN)/longjing fetch smollm2

clean:
	rm -rf $(VENV) *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Longjing needs Python 3.11 or newer, and $(PYTHON) is not: name another, as in PYTHON=python3.12 make demo"; \
	  exit 1; }
	$(PYTHON) -m venv $(VENV) || { \
	  rm -rf $(VENV); echo "That Python cannot make virtual environments; on Debian or Ubuntu: apt install python3-venv"; \
	  exit 1; }

# PyTorch comes first and alone, so that nothing else decides which build of it is taken.
$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install $(TORCH)
	$(PIP) install -c constraints.txt -e '.[serve]'
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@
