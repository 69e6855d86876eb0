PYTHON ?= python3
BIN := .venv/bin

# How long `make soak` goes on.
SECONDS ?= 600
# How many operations `make fuzz-inbox` does.
OPERATIONS ?= 1000000

.PHONY: run screenshots test unit test-long retest lint format clean autobahn fuzz-queue fuzz-inbox crash-queue fuzz-http faults soak bench-queue bench-fanout bench-opening bench-traces bench-inbox bench-eta fuzz-openapi docs messages release mutate

run: .venv/run.stamp
	RT_DEMO_LOGIN=$${RT_DEMO_LOGIN:-true} $(BIN)/python run.py

# Most tests wait most of the time: three share two cores well. A status of 1: all have run, and some failed.
PYTEST = $(BIN)/python -m pytest -n 3 --dist worksteal
test: .venv/dev.stamp
	$(PYTEST) -m "not long" || { echo $$? >.pytest_cache/status; false; }

# Those that start no store: a few seconds.
unit: .venv/dev.stamp
	$(BIN)/python -m pytest -q tests/unit

test-long: .venv/dev.stamp .venv-mutate/stamp
	$(PYTEST) -m long || { echo $$? >.pytest_cache/status; false; }

# The pictures of the page in docs/images.
screenshots: .venv/dev.stamp
	$(BIN)/python -m tests.long.screenshots

# The tests that failed in the last run, one after the other.
retest: .venv/dev.stamp
	$(BIN)/python -m pytest -v --last-failed --last-failed-no-failures none

lint: .venv/dev.stamp node_modules/stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	npm run --silent lint

node_modules/stamp: package-lock.json
	npm ci --no-audit --no-fund --loglevel=error
	touch $@

# The long forms; each has a short one in the suite.
autobahn: .venv/dev.stamp
	$(BIN)/python -m tests.long.autobahn

fuzz-queue: .venv/dev.stamp
	$(BIN)/python -m tests.long.fuzz_queue

fuzz-inbox: .venv/dev.stamp
	$(BIN)/python -m tests.long.fuzz_inbox --operations $(OPERATIONS)

crash-queue: .venv/dev.stamp
	$(BIN)/python -m tests.long.crash_queue

fuzz-http: .venv/dev.stamp
	RT_FUZZ_EXAMPLES=50000 $(BIN)/python -m pytest tests/test_http_walk.py

faults: .venv/dev.stamp
	RT_FAULT_FREEZE=10 RT_FAULT_STORM=2000 RT_FAULT_STREAMS=10000 RT_FAULT_SECONDS=600 \
	$(BIN)/python -m pytest -s tests/faults

soak: .venv/dev.stamp
	PYTHONPATH=clients/python/src $(BIN)/python -m tests.faults.soak --seconds $(SECONDS)

# Mutants of the code, in a copy of the tree; EACH of each module.
EACH ?= 30
mutate: .venv/dev.stamp .venv-mutate/stamp
	$(BIN)/python -m tests.long.mutate --each $(EACH) --results benchmarks/results/mutation.md

.venv-mutate/stamp:
	$(PYTHON) -m venv .venv-mutate
	.venv-mutate/bin/pip install --quiet --disable-pip-version-check cosmic-ray==8.7.0
	touch $@

bench-queue: .venv/dev.stamp
	$(BIN)/python -m benchmarks.queue

bench-fanout: .venv/dev.stamp
	$(BIN)/python -m benchmarks.fanout

bench-opening: .venv/dev.stamp
	$(BIN)/python -m benchmarks.opening

bench-traces: .venv/dev.stamp
	$(BIN)/python -m benchmarks.traces

bench-inbox: .venv/dev.stamp
	$(BIN)/python -m benchmarks.inbox --full

bench-eta: .venv/dev.stamp
	$(BIN)/python -m benchmarks.eta
	$(BIN)/python -m benchmarks.eta_real

# The catalogue of texts for end users, of the code and the pages, and the modules made of it; it says what is not translated.
messages: .venv/dev.stamp
	$(BIN)/python -m tools.messages
	node clients/js/build.mjs

# The JSON of the documents, and the pages of the reference that are made of the code.
docs: .venv/dev.stamp
	$(BIN)/python -m docs.made

# The short form runs in the suite.
fuzz-openapi: .venv/dev.stamp
	RT_FUZZ_OPENAPI_EXAMPLES=300 $(BIN)/python -m pytest -s tests/test_openapi_fuzz.py

format: .venv/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .venv-mutate node_modules data .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

$(BIN)/python:
	$(PYTHON) -m venv .venv

.venv/run.stamp: requirements.txt requirements-embedded.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-embedded.txt
	touch $@

.venv/dev.stamp: requirements.txt requirements-embedded.txt requirements-dev.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

release: .venv/dev.stamp
	$(BIN)/python -m tools.release $(VERSION)
