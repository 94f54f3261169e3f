# Two commands to know: `make demo` and `make test`. Each installs what it needs into .venv, from the lock file.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

SCENARIOS ?= S1,S2,raw,S3,S4,S5,S6
RUNS ?= 5

.PHONY: bench demo test test-broker test-all lint types imports check release-schemas clean

$(STAMP): pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check uv==0.13.8
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --config-settings editable_mode=compat -e .
	touch $@

demo: $(STAMP)  ## a real Kafka, a real ClickHouse engine, 300 URLs, and a verdict
	$(BIN)/scrapesaga demo

bench: $(STAMP)  ## how fast the engine is here: make bench SCENARIOS=S1,S2 RUNS=3
	$(BIN)/python -m bench --scenarios $(SCENARIOS) --runs $(RUNS)

test: $(STAMP)  ## the fast tests: pure rules, steps against real HTTP
	$(BIN)/pytest -q tests/unit $(wildcard tests/sim)

test-broker: $(STAMP)  ## against a real Kafka and a real ClickHouse engine
	$(BIN)/pytest -q tests/broker

test-all: test test-broker

lint: $(STAMP)
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

imports: $(STAMP)
	$(BIN)/lint-imports

check: lint types imports

# A released version's schemas are in somebody's log: they are copied once, and never again.
release-schemas: $(STAMP)
	@version=$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml); folder=schemas/released/$$version; \
	if [ -e $$folder ]; then echo "$$folder exists: set the next version in pyproject.toml first" >&2; exit 1; fi; \
	mkdir -p $$folder && cp schemas/*.avsc $$folder && cd schemas/released && sha256sum */*.avsc > SHA256SUMS && echo "kept $$folder"

clean:
	rm -rf $(VENV) .scrapesaga build dist *.egg-info
