# `make demo` and `make test` do all their own set-up. Every other target uses the same environment.
PYTHON ?= python3
BIN := .venv/bin
# The releases that detrkit is tested with; a machine with a GPU wants these as well.
TORCH := torch==2.14.1 torchvision==0.29.1

.PHONY: demo test test-long soak check format bench clean

demo: .venv/ready
	rm -rf demo/run
	$(BIN)/detrkit data shapes demo/shapes
	$(BIN)/detrkit train shapes --data demo/shapes --out demo/run --budget 5m
	$(BIN)/detrkit evaluate demo/run --data demo/shapes --out demo/evaluation
	$(BIN)/detrkit predict demo/run 'demo/shapes/val/00000*.png' --out demo/predictions --threshold 0.3

# Two processes of one thread each finish sooner than one of two threads.
test: .venv/ready
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

test-long: .venv/ready
	$(BIN)/pytest -m long

# An hour by default; MINUTES and SEED choose others.
MINUTES ?= 60
SEED ?= 0
soak: .venv/ready
	$(BIN)/python tests/soak/soak.py --minutes $(MINUTES) --seed $(SEED)

check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: .venv/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# One after the other, since each wants the machine for itself.
BENCHMARKS := $(filter-out harness contestants counting render scaling,$(basename $(notdir $(wildcard benchmarks/*.py))))
bench: .venv/ready
	set -e; for name in $(BENCHMARKS); do $(BIN)/python benchmarks/$$name.py; done
	$(BIN)/python benchmarks/render.py

clean:
	rm -rf .venv demo

.venv/ready: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/pip install --quiet $(TORCH)
	$(BIN)/pip install --quiet --editable . --group dev
	touch $@
