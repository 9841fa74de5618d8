# `make demo` and `make test` do all their own set-up. Every other target uses the same environment.
PYTHON ?= python3
BIN := .venv/bin
# The releases that detrkit is tested with; a machine with a GPU wants these as well.
TORCH := torch==2.14.1 torchvision==0.29.1

.PHONY: demo test test-long fuzz soak check format bench lock audit floors clean

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

# Damaged files for every reader, each of which gets this many without guidance and as many guided by coverage.
FUZZ := 10000
fuzz: .venv/ready
	DETRKIT_FUZZ=$(FUZZ) $(BIN)/pytest -n 2 tests/fuzz
	$(BIN)/pip install --quiet --target build/fuzz atheris
	for target in $$($(BIN)/python tests/fuzz/targets.py); do \
	  DETRKIT_CACHE=off PYTHONPATH=build/fuzz $(BIN)/python tests/fuzz/guided.py $$target -runs=$(FUZZ) || exit 1; \
	done

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

# The releases that are installed, as those that a fresh environment gets. What torch needs follows from its own.
lock: .venv/ready
	echo "# What detrkit is developed and tested with, beside torch: written by make lock." > requirements.lock
	$(BIN)/pip freeze --exclude-editable | grep -Ev '^(torch|torchvision|triton|nvidia-|cuda-)| @ ' >> requirements.lock

# Known vulnerabilities in what is installed, asked of PyPI; --strict, since what cannot be asked is not known.
audit:
	$(PYTHON) -m venv build/audit
	build/audit/bin/pip install --quiet pip-audit
	printf '%s\n' $(TORCH) > build/torch.txt
	build/audit/bin/pip-audit --strict --no-deps --disable-pip -r requirements.lock -r build/torch.txt

# The lowest releases that pyproject.toml allows, with a quick part of the tests. It downloads torch 2.6: some 3 GB.
# Left out is what compares with transformers, whose releases want later ones, and what this torch cannot export.
FLOORS := build/floors/bin
floors:
	$(PYTHON) -m venv --clear build/floors
	$(FLOORS)/pip install --quiet uv
	$(FLOORS)/uv pip compile --quiet --resolution lowest-direct --python $(FLOORS)/python pyproject.toml -o build/floors.txt
	$(FLOORS)/uv pip install --quiet --python $(FLOORS)/python -r build/floors.txt \
	  pytest pytest-xdist hypothesis beartype pycocotools tidecv webdataset
	$(FLOORS)/uv pip install --quiet --python $(FLOORS)/python --no-deps --editable .
	$(FLOORS)/pytest -n 2 $(addprefix tests/unit/,test_boxes.py test_catalog.py settings layers objective \
	  models data evaluation training/test_checkpoint.py weights/test_store.py weights/test_official.py) \
	  $(addprefix --ignore tests/unit/,layers/test_position.py models/test_anchor_decoder.py) \
	  --deselect tests/unit/models/test_encoder.py::test_an_encoder_exported_without_padding_takes_any_size

clean:
	rm -rf .venv demo build

.venv/ready: pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/pip install --quiet --constraint requirements.lock $(TORCH)
	$(BIN)/pip install --quiet --constraint requirements.lock --editable . --group dev
	touch $@
