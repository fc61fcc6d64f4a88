# Two commands for a new machine: make demo, make test. Both make the environment first; only Python ≥ 3.11 and make are needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SPARK := $(VENV)/.spark

.PHONY: demo test check serve pictures lock clean system bench bench-docs

demo: $(READY)
	$(BIN)/huifang demo $(DEMO)

# A file of tests stays with one worker, whose server and brokerage its tests share; WORKERS=0 for a debugger.
WORKERS ?= 3
test: $(READY) $(SPARK)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(PYTEST)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not slow" $(PYTEST)

serve: $(READY)
	$(BIN)/huifang serve

# What intake costs beside DuckDB's bare scan and plain pandas: docs/benchmarks.md.
BENCH ?= intake
bench: $(READY)
	$(BIN)/python -m bench $(BENCH)

bench-docs: $(READY)
	$(BIN)/python -m bench docs $(BENCH_RUNS)

# The pictures in docs/img, from the demo that ran last (needs the packages of `make system`).
pictures: $(READY)
	$(BIN)/python -m demo.pictures

# requirements.txt pins every package; pip is told nothing of where they come from.
$(READY): requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "huifang needs Python 3.11 or newer; set PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip check
	touch $(READY)

# Spark is half a gigabyte, and only its tests and a cluster need it.
$(SPARK): requirements-spark.txt $(READY)
	$(BIN)/python -m pip install -qq --disable-pip-version-check -r requirements-spark.txt
	touch $(SPARK)

# The packages of the system that the tests' real parts need (Debian); make test skips loudly what is missing.
system:
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$(grep -v '^#' system-packages.txt)

# Pin anew what pyproject.toml allows.
lock:
	rm -rf $(VENV)/lock && $(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/python -m pip install -qq --disable-pip-version-check ".[dev]" setuptools wheel
	$(VENV)/lock/bin/python -m pip freeze --all --exclude huifang --exclude pip > requirements.txt
	rm -rf $(VENV)/lock

clean:
	rm -rf $(VENV)
