# Two commands: `make run` starts everything, `make test` runs every test.
PYTHON ?= python3
VENV := .venv
SECONDS ?= 60
BIN := $(VENV)/bin
PIP := $(BIN)/pip --quiet --disable-pip-version-check

.PHONY: audit run test test-servers images faults lint fuzz help clean
.DEFAULT_GOAL := help

help: ## say what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/'

run: $(VENV)/.run ## install what the main job needs, load the demo, start (PORT, WEIGHHOUSE_DATA)
	@$(BIN)/python manage.py up

test: $(VENV)/.test ## install what the tests need and run them all
	$(BIN)/python -m pytest $(ARGS)

SERVERS = DATABASE_URL=$${DATABASE_TEST_URL:-postgres://127.0.0.1:5432/test} REDIS_URL=$${REDIS_TEST_URL:-redis://127.0.0.1:6379/15}

test-servers: $(VENV)/.test ## run them all on PostgreSQL and Redis (DATABASE_TEST_URL, REDIS_TEST_URL)
	@if $(SERVERS) $(BIN)/python -m tests.servers; then \
		$(SERVERS) $(BIN)/python -m pytest $(ARGS); \
	elif [ "$(CI)" = "true" ]; then exit 1; fi

images: ## run the install steps of the images in clean virtual environments
	@PYTHON=$(PYTHON) docker/check_images.sh

lint: $(VENV)/.test ## formatting, types, imports, templates, migrations
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy config moderation triage
	$(BIN)/mypy --config-file= --strict --ignore-missing-imports clients/python/weighhouse_client
	$(BIN)/lint-imports
	$(BIN)/djhtml --tabwidth 2 --check templates
	$(BIN)/python manage.py makemigrations --check --dry-run

audit: $(VENV)/.test ## look up known weaknesses of what is pinned; without a network it says so and passes
	@$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip --progress-spinner off \
		--timeout 10 >$(VENV)/audit.txt 2>&1; status=$$?; tail -20 $(VENV)/audit.txt; \
	if [ $$status -ne 0 ] && ! grep -qE 'Could not connect to|ConnectionError|Max retries exceeded' \
		$(VENV)/audit.txt; then exit 1; fi

fuzz: $(VENV)/.test ## fuzz the readers of strangers' files, SECONDS each (needs the fuzz extra)
	@for reader in safetensors pickle zip; do \
		echo "Fuzzing the $$reader reader for $(SECONDS) s ..."; \
		$(BIN)/python tests/fuzz/fuzz_$$reader.py -max_total_time=$(SECONDS) -max_len=4096 \
			-timeout=10 -rss_limit_mb=2048 -verbosity=0 || exit 1; \
	done

faults: SECONDS = 120
faults: $(VENV)/.test ## break a whole house under load for SECONDS (120; 40 is the short form)
	$(BIN)/python -m tests.faults --seconds $(SECONDS)

clean: ## remove what was installed and every bit of data
	rm -rf $(VENV) var

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Weighhouse needs Python 3.11 or newer: make run PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing what the main job needs (once) ..."
	@$(PIP) install --constraint constraints.txt .
	@touch $@

# On a laptop the tests that need torch or a browser skip and say so; CI must run them all.
ifeq ($(CI),true)
EXTRAS := dev,postgres,s3,torch,fuzz
else
EXTRAS := dev,postgres,s3
endif

$(VENV)/.test: $(VENV)/.run
	@echo "Installing what the tests need (once): $(EXTRAS) ..."
	@$(PIP) install --constraint constraints.txt ".[$(EXTRAS)]"
	@if [ "$(CI)" = "true" ] && ! command -v chromium >/dev/null; then \
		apt-get update -qq && apt-get install -qq -y chromium >/dev/null; fi
	@touch $@
