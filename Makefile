# Everything a developer does. Needs Python 3.11 or newer and make; `make setup` brings the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The interpreter that the environment was built from: another PYTHON, or another lock, rebuilds it.
WANTED := $(shell $(PYTHON) -c 'import sys; print(sys.version.replace("\n", " "), sys.base_prefix)' 2>/dev/null)
STAMP := $(VENV)/.built
LOCKED := $(VENV)/.locked
# What is compiled where there is a compiler, and how.
COMPILED := hatch_build.py $(addprefix monitoring/,http/exchange.py http/request_metrics.py http/route_template.py asgi_types.py multiprocess/worker/value.py catalogue/http.py catalogue/declaration.py)
COMPILER := $(shell $(PYTHON) -c 'import pathlib, shutil, sysconfig; print(shutil.which((sysconfig.get_config_var("CC") or "cc").split()[0]), pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())' 2>/dev/null) $(NEURECTOMY_COMPILE)
PYTEST_ARGS ?=
LOAD_ARGS ?=
OBSERVE_ARGS ?=
POD_ARGS ?=
PROOF_REPEATS ?= 10

.PHONY: setup serve observe pod load test proof lint format bench lock clean FORCE
.DELETE_ON_ERROR:

setup: $(STAMP)

# Rewritten only when the interpreter is another one, so that the stamp below follows it.
.python: FORCE
	@test -n '$(WANTED)' || { echo "make: $(PYTHON) does not run; pass PYTHON=/path/to/python3.11 or newer" >&2; exit 1; }
	@printf '%s\n' '$(WANTED)' | cmp -s - $@ || printf '%s\n' '$(WANTED)' > $@

# As that one: a compiler that came since compiles.
.compiler: FORCE
	@printf '%s\n' '$(COMPILER)' | cmp -s - $@ || printf '%s\n' '$(COMPILER)' > $@

# The lock is complete, so nothing is resolved: an old pip's resolver would take `coverage[toml]`, that a locked package asks for, for another
# requirement than the locked `coverage`, and refuses as soon as a newer one is published.
$(LOCKED): .python requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $(PYTHON) is older than Python 3.11; pass PYTHON=/path/to/a/newer/one" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@touch $@

$(STAMP): $(LOCKED) .compiler pyproject.toml $(COMPILED)
	@touch $@.new # what is edited meanwhile is newer
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m monitoring.http
	@mv $@.new $@

serve: export REQUIRE_API_KEY ?= 0
serve: export VAULT_KEY_FILE ?= $(CURDIR)/vault.key
serve: $(STAMP)
	@$(BIN)/python -m app.settings
	@$(BIN)/python -m app.vault create --if-missing
	exec $(BIN)/gunicorn -c gunicorn_conf.py app.main:app

# A service of its own on free ports, Prometheus and Alertmanager beside it, until Ctrl-C: docs/observing.md.
observe: export REQUIRE_API_KEY ?= 0
observe: export VAULT_KEY_FILE ?= $(CURDIR)/vault.key
observe: $(STAMP)
	@$(BIN)/python -m app.vault create --if-missing
	@exec $(BIN)/python -m monitoring.observe $(OBSERVE_ARGS) -- $(BIN)/gunicorn -c gunicorn_conf.py app.main:app

# The image, and a pod of k8s/overlays/local without a cluster, until Ctrl-C: docs/image.md. Needs root and podman.
pod: $(STAMP)
	@exec $(BIN)/python -m tools.podman $(POD_ARGS)

# Calls every endpoint of a running service: docs/load.md. LOAD_ARGS='--metrics http://127.0.0.1:9464/metrics' compares with its metrics.
load: $(STAMP)
	@$(BIN)/python -m tools.load $(LOAD_ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest -n 3 --cov --cov-report=term $(PYTEST_ARGS)

# The cases whose long form is longer, and the tests with the marker `proof`, which `make test` leaves out.
LONG := tests/faults tests/breaker tests/app/integrations/vault tests/app/reporting/test_users_served.py tests/app/api/test_openapi.py \
	tests/app/api/test_compression_kills.py tests/tools/podman/test_pod.py tests/multiprocess/merge/test_monotone.py
proof: export PROOF_REPEATS := $(PROOF_REPEATS)
proof: $(STAMP)
	@echo 'fault cases, each $(PROOF_REPEATS) times, crossed over preload and worker class; long forms of: $(LONG)'
	$(BIN)/python -m pytest $(LONG) $(PYTEST_ARGS)
	@echo 'variants and long tests that make test leaves out (marker proof)'
	$(BIN)/python -m pytest -m proof $(addprefix --ignore=,$(LONG)) $(PYTEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m tools.prose
	$(BIN)/codespell

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)
	@for file in benchmarks/[a-z]*.py; do $(BIN)/python "$$file" || exit 1; done

# Needs uv. Hashes only: no registry's address and no path of the machine goes into a lock. The second one is the image's: the same versions, fewer.
lock:
	uv pip compile --quiet --universal --python-version 3.11 --all-extras --generate-hashes \
		--no-header --no-annotate --no-emit-index-url --no-emit-find-links \
		--output-file requirements.lock pyproject.toml
	uv pip compile --quiet --universal --python-version 3.11 --extra view --extra gpu --extra postgresql --generate-hashes \
		--constraint requirements.lock --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
		--output-file requirements-runtime.lock pyproject.toml

clean:
	rm -rf $(VENV) build monitoring/http/*.so monitoring/http/.*.new .compiler monitoring/http/.*.new .npm .python .compiler .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache
