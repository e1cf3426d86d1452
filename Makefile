# The few verbs of Twofold. `make run` serves, `make test` proves; CONTRIBUTING.md tells the rest.
# For GNU make 3.81 and /bin/sh. Everything is written inside this folder; nothing here needs root.

PORT ?= 8000
UV ?= uv

python := .venv/bin/python
pip := $(python) -m pip --quiet --no-input --disable-pip-version-check --no-cache-dir
uv_compile := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --only-binary :all: \
	--emit-build-options --no-emit-index-url --no-annotate --no-header --default-index https://pypi.org/simple

.PHONY: run setup test check bench soak lock

run: .venv/ready-to-run # serve on http://localhost:8000, or another PORT
	@exec .venv/bin/twofold serve --port $(PORT)

setup: .venv/ready-to-test # everything that the other verbs need

test: .venv/ready-to-test # all tests but the long ones, with the coverage of core, factors and crypto
	@exec $(python) -m pytest --cov

check: .venv/ready-to-test # lint, format, types, architecture, documentation
	@$(python) -m ruff check
	@$(python) -m ruff format --check
	@$(python) -m mypy --strict src
	@$(python) -m pytest --quiet tests/test_architecture.py tests/test_docs.py tests/test_docs_examples.py tests/test_packaging.py

bench: .venv/ready-to-test # the figures of docs/benchmarks.md
	@exec $(python) -m bench

soak: .venv/ready-to-test # the long runs that CI does not do, with new random examples each time
	@$(python) -m pytest -m soak --hypothesis-profile soak
	@exec $(python) -m bench --soak

lock: # after a change of dependencies; needs uv
	$(uv_compile) --group build --output-file requirements.lock pyproject.toml
	$(uv_compile) --group build --group dev --group bench --constraint requirements.lock --output-file requirements-dev.lock pyproject.toml
	$(uv_compile) --no-deps --group pyproject.toml:older --output-file requirements-older.lock

# Without npm the tests of what is for Node say what is missing.
npm_locks := clients/js/package-lock.json tests/npm/package-lock.json
install_npm = ! command -v npm >/dev/null || for lock in $(npm_locks); do \
	npm ci --prefix $$(dirname $$lock) --cache "$(CURDIR)/.venv/npm" --no-audit --no-fund --loglevel=error >/dev/null || exit 1; done

# An environment that does not run, or that was made for another folder, is never ready.
made_for := $(shell $(python) -c 'import importlib.util as u; print(u.find_spec("twofold").origin)' 2>/dev/null)
ifneq ($(made_for),$(CURDIR)/src/twofold/__init__.py)
.PHONY: .venv/ready-to-run .venv/ready-to-test
endif

.venv/ready-to-run: pyproject.toml requirements.lock
	@$(call install,requirements.lock)
	@touch $@

.venv/ready-to-test: pyproject.toml requirements-dev.lock requirements-older.lock $(npm_locks)
	@$(call install,requirements-dev.lock)
	@$(pip) install --require-hashes --only-binary :all: --no-deps --upgrade --target .venv/older --requirement requirements-older.lock
	@$(install_npm)
	@touch .venv/ready-to-run $@

# Temporary files stay inside, too.
install = $(python) -c '' 2>/dev/null || { $(make_environment); }; \
	echo 'installing $(1) into .venv (once; a minute or less)'; \
	mkdir -p .venv/tmp && export TMPDIR="$(CURDIR)/.venv/tmp" && \
	$(pip) install --require-hashes --only-binary :all: --requirement $(1) && \
	$(pip) install --no-deps --no-build-isolation --editable . || exit 1

# A name on the PATH may be a shim that fails, and Debian's python3 comes without ensurepip: so each is tried.
make_environment = rm -rf .venv; \
	for name in python3.13 python3.12 python3.11 python3.14 python3; do \
	  $$name -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue; \
	  $$name -m venv .venv && break; \
	done; \
	[ -x $(python) ] || ! command -v $(UV) >/dev/null || { \
	  UV_PYTHON_INSTALL_DIR=.python $(UV) venv --quiet --no-cache --managed-python --python 3.13 .venv && \
	  $(python) -m ensurepip >/dev/null; \
	}; \
	[ -x $(python) ] || { $(say_how_to_get_python); exit 1; }

say_how_to_get_python = \
	if command -v apt-get >/dev/null; then how='sudo apt-get install python3-venv'; \
	  python3 -c 'import sys; sys.exit(sys.version_info >= (3, 11))' 2>/dev/null && how='sudo apt-get install python3.11-venv'; \
	elif command -v dnf >/dev/null; then how='sudo dnf install python3.12'; \
	elif command -v pacman >/dev/null; then how='sudo pacman -S python'; \
	elif command -v apk >/dev/null; then how='sudo apk add python3'; \
	elif command -v brew >/dev/null; then how='brew install python@3.13'; \
	else how='see https://www.python.org/downloads/'; fi; \
	echo "Twofold needs Python 3.11 or later with venv: $$how" >&2
