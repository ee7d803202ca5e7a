# Two commands for a newcomer: `make demo` and `make test`. Both set everything up first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps
# PyPI has only the CUDA build of PyTorch, several GB. This index has the CPU build; it is asked for that one package
# alone, so a machine that cannot reach it loses seconds, not minutes.
TORCH_CPU := https://download.pytorch.org/whl/cpu

.PHONY: demo demo-fail test check lint types imports tests clients bench clean

demo: $(VENV)/.ready
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash examples/demo.sh

# The same path with a learning rate that ruins the model: the gate has to say FAIL.
demo-fail: $(VENV)/.ready
	@mkdir -p demo-fail
	@sed 's/^learning_rate = .*/learning_rate = 0.1/; s/^max_steps = .*/max_steps = 40/' tune/recipe.example.toml > demo-fail/recipe.toml
	@grep -q '^learning_rate = 0.1$$' demo-fail/recipe.toml
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash examples/demo.sh demo-fail
	@cd demo-fail; $(CURDIR)/$(BIN)/evalsuite gate work/report.json > /dev/null; test $$? = 1

test: check

check: lint types imports tests

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready
	$(BIN)/mypy

imports: $(VENV)/.ready
	$(BIN)/lint-imports --no-cache

tests: $(VENV)/.ready .venv-runpod/.ready
	$(BIN)/pytest --cov --cov-report= -n 2 --no-loadscope-reorder

# The clients that people have, against the real engine, each in an environment of its own; openai 3 is in ours. Codex
# comes by npm, where that is.
CLIENTS := $(basename $(notdir $(wildcard tests/clients/requirements/*.txt)))
CLIENTS := $(filter-out openai3 $(if $(shell command -v npm),,codex),$(CLIENTS))

clients: $(VENV)/.ready $(CLIENTS:%=.venv-clients/%/.ready)
	@for name in $(CLIENTS); do \
	  export "GPTOSS_CLIENT_$$(echo $$name | tr a-z A-Z)=$(CURDIR)/.venv-clients/$$name/bin/$$([ $$name = codex ] && echo codex || echo python)"; \
	done; $(BIN)/pytest --no-cov tests/test_serve_clients.py

.venv-clients/codex/.ready: tests/clients/requirements/codex.txt
	@npm install --silent --no-audit --no-fund --global --prefix $(@D) $$(cat $<)
	@touch $@

.venv-clients/%/.ready: tests/clients/requirements/%.txt
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install -qq --disable-pip-version-check --no-deps -r $<
	@touch $@

# RunPod's SDK, under which the worker of a queue is tested: half a minute, once. Its fastapi is another than vLLM's.
.venv-runpod/.ready: deploy/targets/runpod/requirements.txt
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install -qq --disable-pip-version-check --no-deps -r $<
	@touch $@

bench: $(VENV)/.ready
	$(BIN)/python benchmarks/gate_false_release.py

$(VENV)/.ready: requirements/cpu.txt pyproject.toml
	@$(PYTHON) requirements/machine.py
	@echo "setting up $(VENV): about 4 GB and two minutes, once"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --extra-index-url $(TORCH_CPU) "$$(grep '^torch==' requirements/cpu.txt)"
	@$(PIP) -r requirements/cpu.txt
	@$(PIP) --no-build-isolation --editable .
	@touch $@

clean:
	rm -rf demo demo-fail work build dist *.egg-info .mypy_cache .ruff_cache .hypothesis .coverage
