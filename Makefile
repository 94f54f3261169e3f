# Two commands to know: `make demo` and `make test`. Each installs what it needs into .venv, from the lock file.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# The first of them that answers; a docker client without its daemon doesn't.
ENGINE ?= $(shell for engine in docker podman buildah; do $$engine info >/dev/null 2>&1 && echo $$engine && break; done)
IMAGE ?= scrapesaga:dev
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

SCENARIOS ?= S1,S2,raw,S3,S4,S5,S6
RUNS ?= 5
EXAMPLES ?= 5000
MINUTES ?= 2
URLS ?= 500
SEEDS ?= 20000
HISTORIES ?= 100000
WALK ?= ci
CASES ?= ../shared/cases
CORPUS ?= ../shared/corpus
KILLED ?= intake coordinator fetch parse enrich classify load notify broker

.PHONY: docs picture tidy kafka-jars structure bench chaos demo demo-kills test test-deploy test-broker test-all lint types imports check release-schemas chart clean image sbom locks test-cluster sim planted walk

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

demo-kills: $(STAMP)  ## the demo once for each process, killed in the middle: make demo-kills URLS=500 KILLED="load broker"
	for one in $(KILLED); do $(BIN)/scrapesaga demo --urls $(URLS) --kill $$one || exit $$?; done

chaos: $(STAMP)  ## break a whole engine under load, then judge it from outside: make chaos MINUTES=2 SEED=7
	$(BIN)/python -m tests.chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(if $(KILLS),--least-kills $(KILLS))

test: $(STAMP)  ## the fast tests: pure rules, simulated engines, damaged bytes, steps against real HTTP
	$(BIN)/pytest -q -n auto tests/unit tests/cases tests/sim tests/chaos tests/fuzz tests/golden

sim: $(STAMP)  ## histories in which everything goes wrong, by seed; millions likewise: make sim SEEDS=2000000
	$(BIN)/scrapesaga simulate examples/pipelines/shop-prices.yaml --seeds $(SEEDS) --every-fault

planted: $(STAMP)  ## put bugs in, one at a time, and see whether they are found: make planted HISTORIES=100000
	$(BIN)/python -m tests.sim.planted $(HISTORIES) --check docs/verification.md

walk: $(STAMP)  ## every world that small plans can reach: make walk WALK=large
	$(BIN)/python -m tests.sim.walk $(WALK)

SITE ?= build/docs

docs: $(STAMP)  ## the site of all pages, in build/docs/index.html: a broken link, anchor or diagram fails
	$(BIN)/sphinx-build -q -E -W --keep-going -b html -c docs/site . $(SITE)

picture: $(STAMP)  ## the README's picture of the demo, docs/images/demo.svg: runs the demo and draws what it printed
	$(BIN)/python docs/site/picture.py

test-deploy: $(STAMP)  ## chart and image: rendered, and checked against the engine's own settings
	$(BIN)/pytest -q tests/deploy

chart: $(STAMP)  ## after a change of values.yaml or of the dashboard's panels: write what is made of them
	$(BIN)/python deploy/chart_readme.py && $(BIN)/python deploy/dashboard.py

# More than one at a time needs more than two cores: each has servers of its own, and whole engines run side by side. Tests
# that share servers stay together, see tests/broker/conftest.py.
WORKERS ?= 0
test-broker: $(STAMP)  ## against a real Kafka and a real ClickHouse engine: make test-broker WORKERS=4 where there are cores
	$(BIN)/pytest -q -n $(WORKERS) --dist loadgroup tests/broker

.PHONY: cases extract
cases: $(STAMP)  ## small inputs with what is right: the project's own tables, and those of CASES where it is there
	$(if $(wildcard $(CASES)),CASES=$(CASES)) $(BIN)/pytest -q tests/cases

extract: $(STAMP)  ## how well product pages are read, beside extruct: make extract CORPUS=folder
	$(BIN)/python -m bench.extraction --pages $(CORPUS)/product-pages --prices $(CORPUS)/price-strings/prices.json --beside --gate

test-all: test test-deploy test-broker  ## fast, chart and image, broker: in this order

.PHONY: fuzz golden
fuzz: $(STAMP)  ## damaged input for every decoder, longer than CI does: make fuzz EXAMPLES=20000
	SCRAPESAGA_TEST_FUZZ=$(EXAMPLES) $(BIN)/pytest -q --timeout 0 tests/fuzz

golden: $(STAMP)  ## at a release: record the log that later versions have to decide as this one does
	$(BIN)/python -m tests.golden.record $(VERSION)

lint: $(STAMP)
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy && $(BIN)/mypy --strict docs/site

imports: $(STAMP)  ## which room may import which: pyproject.toml, [tool.importlinter]
	$(BIN)/lint-imports

structure: $(STAMP)  ## rooms, and arrows between them; of any commit: make structure REV=5982e6d
	$(BIN)/python -m tests.structure $(if $(REV),--rev $(REV))

tidy: $(STAMP)  ## what ruff doesn't know: sizes, words of the glossary, dead code
	$(BIN)/python -m tests.tidy

check: lint types imports tidy

# A released version's schemas are in somebody's log: they are copied once, and never again.
release-schemas: $(STAMP)
	@version=$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml); folder=schemas/released/$$version; \
	if [ -e $$folder ]; then echo "$$folder exists: set the next version in pyproject.toml first" >&2; exit 1; fi; \
	mkdir -p $$folder && cp schemas/*.avsc $$folder && cd schemas/released && sha256sum */*.avsc > SHA256SUMS && echo "kept $$folder"

image:  ## one image for every role: make image IMAGE=scrapesaga:dev BUILD_FLAGS=...
	@test -n "$(ENGINE)" || { echo "no docker, podman or buildah answers here: start or install one" >&2; exit 1; }
	$(ENGINE) build $(BUILD_FLAGS) --target image --build-arg VERSION=$(VERSION) \
	  --build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) --tag $(IMAGE) .

KAFKA_IMAGE ?= apache/kafka:4.1.0

test-cluster: $(STAMP)  ## a release on the cluster of KUBECONFIG, see deploy/cluster/README.md
	@test -n "$$KUBECONFIG" || { echo "set KUBECONFIG to the cluster to test on; deploy/cluster/README.md says how" >&2; exit 1; }
	SCRAPESAGA_CLUSTER_IMAGE=$(IMAGE) SCRAPESAGA_CLUSTER_KAFKA_IMAGE=$(KAFKA_IMAGE) \
	  $(BIN)/pytest -x -v tests/cluster

sbom:  ## the image's bill of materials, CycloneDX JSON, in dist/
	@test -n "$(ENGINE)" || { echo "no docker, podman or buildah answers here: start or install one" >&2; exit 1; }
	mkdir -p dist && $(ENGINE) build $(BUILD_FLAGS) --target sbom --output type=local,dest=dist .

locks: $(STAMP)  ## after a change of dependencies in pyproject.toml; UPGRADE=--upgrade for newer versions
	$(BIN)/uv pip compile $(UPGRADE) --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  --extra dev --output-file requirements.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --extra registry --extra otel --constraints requirements.lock --output-file requirements-runtime.lock pyproject.toml
	$(BIN)/uv pip compile $(UPGRADE) --quiet --universal --python-version 3.12 --generate-hashes --no-header --no-annotate \
	  --group pyproject.toml:image --output-file requirements-image.lock

kafka-jars: $(STAMP)  ## after KAFKA_VERSION was raised: the jars' lock, to be reviewed before it is committed
	$(BIN)/python -c "from processors.local.jars import resolve_lock; print(resolve_lock(), end='')" > kafka-jars.lock.new
	mv kafka-jars.lock.new processors/local/kafka-jars.lock

clean:
	rm -rf $(VENV) .scrapesaga build dist *.egg-info
