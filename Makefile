# `make demo` and `make test` are the two commands of the README. Everything stays inside this folder.
PYTHON ?= python3
VENV := .venv
HERE := $(CURDIR)

export PATH := $(HERE)/$(VENV)/bin:$(PATH)
export VIRTUAL_ENV := $(HERE)/$(VENV)
export DVC_SITE_CACHE_DIR ?= $(HERE)/.discern/dvc
export MPLCONFIGDIR ?= $(HERE)/.discern/matplotlib
export PREFECT_HOME ?= $(HERE)/.prefect
# No tool of the stack may phone home; src/discern/settings.py sets the same for stages started by hand.
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export GX_ANALYTICS_ENABLED := false

.PHONY: demo repro test backends check lock clean
.DELETE_ON_ERROR:

demo: repro  ## run the whole pipeline and say what came out
	@discern results

repro: $(VENV)/ready
	@dvc repro

test: $(VENV)/ready  ## every test
	@pytest -n 2 --dist loadfile

backends: $(VENV)/ready  ## the tests of MLflow, Prefect and DVC on PostgreSQL, S3 and Dask; needs Debian's postgresql
	@UV_SYSTEM_CERTS=1 uv pip install --quiet -c requirements.lock -e '.[cluster]' 'moto[server]>=5'
	@python -m tests.backends

check: $(VENV)/ready  ## style, order of imports, types, spelling, known vulnerabilities
	ruff check
	ruff format --check
	lint-imports --no-cache
	mypy
	codespell README.md CONTRIBUTING.md CHANGELOG.md docs src flows tests benchmarks methods presets examples
	pytest -rs tests/contract/test_dependencies.py

# uv installs the lock in half a minute; pip 23.2, which comes with Python 3.11, refuses it. The download cache
# goes into the environment's folder and away again, so that nothing outside this folder is touched.
# Compiled at once: where PYTHONDONTWRITEBYTECODE is set, every process of a run would compile all its imports anew.
$(VENV)/ready: requirements.lock bootstrap.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo "discern needs Python 3.11, 3.12 or 3.13; say which one: make PYTHON=python3.12 demo"; exit 2; }
	@echo "setting up $(VENV) (about a minute, once)"
	@$(PYTHON) -m venv $(VENV)
	@pip install --quiet --no-cache-dir --disable-pip-version-check --require-hashes -r bootstrap.lock
	@UV_SYSTEM_CERTS=1 UV_CACHE_DIR=$(VENV)/cache uv pip install --quiet --compile-bytecode \
		--require-hashes -r requirements.lock
	@UV_SYSTEM_CERTS=1 UV_CACHE_DIR=$(VENV)/cache uv pip install --quiet --no-deps --no-build-isolation -e .
	@rm -rf $(VENV)/cache
	@touch $@

lock:  ## resolve pyproject.toml again
	uv pip compile --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-header --no-annotate \
		--group dev --quiet pyproject.toml -o requirements.lock
	echo 'uv==0.13.8' | uv pip compile --python-version 3.11 --universal --generate-hashes --no-emit-index-url \
		--no-header --no-annotate --quiet - -o bootstrap.lock

clean:  ## remove what the pipeline made here; the environment and the DVC cache stay
	rm -rf data models reports plots .discern/work
