# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
OUT ?= out/demo

.PHONY: demo test test-all check format docs bench clean

demo: .venv/run
	$(BIN)/saddlepoint attack --out $(OUT)
	$(BIN)/saddlepoint evaluate --limit 200 --out $(OUT)/evaluation
	$(BIN)/saddlepoint report $(OUT)/evaluation

test: .venv/dev
	$(BIN)/pytest -n auto -m "not slow"

test-all: .venv/dev
	$(BIN)/pytest -n auto

check: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: .venv/dev
	$(BIN)/python -m sphinx -q -a -E -W --keep-going -b html docs out/docs
	@echo "file://$(CURDIR)/out/docs/index.html"

bench: .venv/bench
	$(BIN)/python benchmarks/attack_speed.py --allocator keep

clean:
	rm -rf .venv out

# Each stamp is an environment that is complete for its purpose; a changed pyproject.toml installs anew.
.venv/run: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "saddlepoint needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": make PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[demo]"
	@touch $@

.venv/dev: .venv/run
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[all]" --group dev
	@touch $@

.venv/bench: .venv/run
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[bench]"
	@touch $@
