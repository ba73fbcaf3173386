# Works with the make of macOS (3.81) too.

PYTHON ?= python3
PORT ?= 5000
ARGS ?=
WORKERS ?= 2
export PORT

PY := .venv/bin/python
# What pypi.org gives must be what was locked: each file has its hash in the lock files.
PIP := $(PY) -m pip --disable-pip-version-check install --quiet --require-hashes
# Stamps: as long as the lock files have not changed, a second start installs nothing.
RUNTIME := .venv/.runtime
DEVELOPMENT := .venv/.development

# Addresses of no real server: they only let the checks run with production settings.
AS_IN_PRODUCTION := DEBUG=0 HPLUS_DEMO=0 ALLOWED_HOSTS=hplus.example \
	SECRET_KEY=for-make-check-only-3xq8Zr5vKd0LwTn7YbGh2sPfJm9cUa4eRi6oQy1t \
	DATABASE_URL=postgres://hplus@127.0.0.1/hplus REDIS_URL=redis://127.0.0.1/0
WITHOUT_SERVICES := DEBUG=1 HPLUS_DEMO=0 DATABASE_URL=sqlite://:memory: REDIS_URL=

.DEFAULT_GOAL := help
.PHONY: help run test test-faults check benchmark format lock audit sbom clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

run: $(RUNTIME) ## install, migrate, add demo data and serve on PORT (5000; ARGS="--host 0.0.0.0")
	@export DEBUG="$${DEBUG-1}" HPLUS_DEMO="$${HPLUS_DEMO-1}"; \
	exec $(PY) manage.py serve --prepare $(ARGS)

test: $(DEVELOPMENT) ## all tests on PostgreSQL and Redis of their own, the stories on SQLite too (ARGS=...)
	HPLUS_TEST_STORAGE= $(PY) -m pytest -n $(WORKERS) --dist loadfile $(ARGS)
	HPLUS_TEST_STORAGE=sqlite $(PY) -m pytest -n $(WORKERS) --dist loadfile tests/stories $(ARGS)

test-faults: $(DEVELOPMENT) ## only the tests that kill, freeze, restart and simulate
	FAULT_ROUNDS=$${FAULT_ROUNDS-5} SOAK_SECONDS=$${SOAK_SECONDS-600} HISTORIES=$${HISTORIES-10000} \
	SIMULATION_SECONDS=$${SIMULATION_SECONDS-600} \
	$(PY) -m pytest -m faults $(ARGS)

check: $(DEVELOPMENT) ## format, lint, types, import directions, production settings, migrations, protocol
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) .venv/bin/lint-imports
	$(AS_IN_PRODUCTION) $(PY) manage.py check --deploy --fail-level WARNING
	$(WITHOUT_SERVICES) $(PY) manage.py makemigrations --check --dry-run
	$(WITHOUT_SERVICES) $(PY) manage.py protocol --check

benchmark: $(DEVELOPMENT) ## what HPlus costs beside a server in Node.js (ARGS=--quick, ARGS=--help)
	$(PY) -m benchmarks.compare $(ARGS)

format: $(DEVELOPMENT) ## let ruff format and fix what it can
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

lock: ## requirements*.in -> requirements*.txt (ARGS=--upgrade for newer versions)
	@command -v uv >/dev/null || { echo "make lock needs uv: https://docs.astral.sh/uv/"; exit 1; }
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock" \
		$(ARGS) requirements.in -o requirements.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock" \
		$(ARGS) requirements-push.in -o requirements-push.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock" \
		$(ARGS) requirements-dev.in -o requirements-dev.txt

audit: $(DEVELOPMENT) ## known vulnerabilities in the locked dependencies (asks pypi.org; ARGS=-sosv asks osv.dev)
	$(PY) -m pip_audit --strict --no-deps --disable-pip \
		--requirement requirements.txt --requirement requirements-push.txt $(ARGS)

sbom: $(DEVELOPMENT) ## the software bill of materials of what is locked, as CycloneDX, in var/sbom/
	@mkdir -p var/sbom
	@for what in requirements requirements-push; do \
		$(PY) -m cyclonedx_py requirements --output-reproducible --spec-version 1.6 --validate \
			--output-file var/sbom/$$what.cdx.json $$what.txt || exit 1; \
		echo "var/sbom/$$what.cdx.json"; \
	done

clean: ## remove the virtual environment and all caches; the data in var/ stays
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUNTIME): requirements.txt $(PY)
	@echo "Installing the dependencies into .venv (once, about a minute) ..."
	@$(PIP) --requirement requirements.txt
	@touch $@

$(DEVELOPMENT): requirements.txt requirements-dev.txt $(PY)
	@echo "Installing the dependencies for tests and checks into .venv (once, about a minute) ..."
	@$(PIP) --requirement requirements-dev.txt
	@touch $(RUNTIME) $@

$(PY):
	@command -v $(PYTHON) >/dev/null || \
		{ echo "HPlus needs Python 3.11 or newer, and there is no $(PYTHON) here. Name one: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "HPlus needs Python 3.11 or newer; this is $$($(PYTHON) --version). Name one: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) cannot make a virtual environment. On Debian: apt install python3-venv"; exit 1; }
	@$(PYTHON) -m venv --clear .venv
