# vidom: every line here prints the plain command that it runs. `make help` explains targets and variables.

MODEL   ?= tsm_sthv2
BS      ?= 1
CKPT    ?=
DATA_ROOT ?=
ANN     ?=
ENGINE  ?= auto
DEVICE  ?= 0
PROVIDER ?=
PRECISION ?=
TARGET  ?= $(if $(shell command -v atc),ascend310p,cpu)
BATCHES ?=
VIEWS   ?= all
OUT     ?= run/$(MODEL)$(TAG)
DATASET ?=
SRC     ?=
LABELS  ?=
DATA_ARGS ?=
DTYPE   ?= float32
OUTFMT  ?= NPY
LOOP    ?= 20
LIMIT   ?=
COMPARE ?=
WINDOW  ?=
RAY     ?=
FRAMES  ?= $(wildcard tests/fixtures/synth/*)
ZOO_PYTHON ?=
VIDEO   ?=
FILE    ?=
SET     ?=
SOC     ?=
DRY_RUN ?=
NEED    ?=
PYTHON  ?= python3

VENV  := .venv
RUN   := $(VENV)/bin/python
READY := $(VENV)/.ready
EXTRAS := $(VENV)/.extras
OPTIMIZER := .venv-auto-optimizer
PER_VIEW := $(if $(filter one,$(VIEWS)),--per_view)
TAG   := $(if $(PER_VIEW),_views)$(if $(filter-out float32,$(DTYPE)),_$(DTYPE))
BUILD := om_models/build/$(MODEL)$(TAG)/bs$(BS)
NAIVE := $(BUILD)/$(MODEL)_bs$(BS).onnx
FINAL := $(BUILD)/$(MODEL)_new_bs$(BS).onnx
OM    := $(FINAL:.onnx=.om)
STORE ?= $(OUT)/store
FROM  := --recipe $(MODEL) $(foreach entry,$(SET),--set $(entry))
INPUT := --input_dtype $(DTYPE)
ON    := --engine $(ENGINE) --device $(DEVICE) $(if $(PROVIDER),--provider $(PROVIDER)) $(if $(PRECISION),--precision $(PRECISION))
CLUSTER := $(if $(RAY),--ray $(RAY))
# What a line needs beyond .venv: OpenVINO or Ray if it names them.
NEEDED := $(READY) $(if $(RAY)$(filter openvino,$(ENGINE)),$(EXTRAS))
RUNS  := --model $(if $(filter ascend,$(ENGINE)),$(OM),$(FINAL)) $(ON)

.DEFAULT_GOAL := help
.PHONY: help setup extras auto-optimizer surgeon lock doctor demo demo-train test lint format data data-audit preprocess export om verify infer score bench bench-all evaluate predict data-drift models inspect clean distclean

help: ## show this text
	@echo "usage: make TARGET [VARIABLE=value ...]"; echo; echo "targets"
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | awk -F'\t' '{printf "%-14s %s\n", $$1, $$2}'
	@echo; echo "variables"
	@printf '  %-10s %s\n' \
	  MODEL     "recipe in om_models/ ($(MODEL)); there are: $(basename $(notdir $(wildcard om_models/*.yaml)))" \
	  BS        "batch size ($(BS))" \
	  CKPT      "checkpoint file, or seeded:0 for deterministic stand-in weights" \
	  DATA_ROOT "folder of the videos or frame folders that ANN names" \
	  ANN       "annotation list: 'dir frames label' or 'video label' a line" \
	  DATASET   "sthv2, ucf101, ucf101_66, kinetics400 or folder, for data" \
	  SRC       "folder of what was downloaded, for data; it is never written to" \
	  DATA_ARGS "further options of preprocess/prepare.py, e.g. '--on_bad skip --fps 25'" \
	  LABELS    "file of class names, for data-audit" \
	  OUT       "where the clip store and the results go ($(OUT))" \
	  DTYPE     "float32; uint8: a quarter of the bytes, the graph normalises; aipp: the NPU does (experimental, TSM and PP-TSM) ($(DTYPE))" \
	  VIEWS     "one: a file and a model row for each view, averaged by score; for samples too large for one tensor" \
	  OUTFMT    "NPY, BIN or TXT ($(OUTFMT))" \
	  LOOP      "repeats of the pure-performance loop ($(LOOP))" \
	  FRAMES    "folders of extracted frames, a video each, for bench-all" \
	  ZOO_PYTHON "a Python 3.7 with numpy 1.21, ModelZoo's own, for bench-all" \
	  VIDEO     "one video file, for predict and data-drift" \
	  FILE      "a checkpoint file, for inspect" \
	  SET       "recipe overrides, e.g. SET='head.average_clips=prob'" \
	  SOC       "chip for om, e.g. 310P3; npu-smi tells it where there is a card" \
	  DRY_RUN   "1: om prints ATC's command and writes commands.sh, nothing else" \
	  NEED      "stages that doctor must find possible, e.g. 'om score'" \
	  ENGINE    "auto, onnxruntime, openvino or ascend: auto takes the NPU where it, ais_bench and the .om are there ($(ENGINE))" \
	  PRECISION "of ENGINE=openvino: f32, or bf16 on processors that have it" \
	  TARGET    "what surgery is for, cpu or ascend310p; om always takes the latter ($(TARGET))" \
	  DEVICE    "NPU number, or several as 0,1 ($(DEVICE))" \
	  PROVIDER  "ONNX Runtime's execution provider, e.g. CUDA; the CPU if not given" \
	  LIMIT     "so many samples for evaluate, each class with its share" \
	  COMPARE   "folder of another evaluation, to be compared sample by sample" \
	  WINDOW    "bytes of clips on disk at a time, e.g. 2GB, for evaluate ENGINE=ascend" \
	  RAY       "local, or the address of a Ray cluster, for data, preprocess and evaluate" \
	  BATCHES   "batch sizes of bench's table, e.g. '1 4 8 16 32'" \
	  STORE     "clip store ($(STORE))" \
	  PYTHON    "interpreter that .venv is made from ($(PYTHON))" \
	  PIP_ARGS  "extra arguments for pip during setup, e.g. an index of CPU builds of torch"

setup: $(READY) ## make .venv and install everything into it

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -r requirements.lock
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

extras: $(EXTRAS) ## add the optional packages to .venv: OpenVINO (a second CPU engine) and Ray (many machines)

$(EXTRAS): $(READY) requirements-extras.lock
	$(RUN) -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) --no-deps -r requirements-extras.lock
	@touch $@

auto-optimizer: $(OPTIMIZER)/.ready ## create .venv-auto-optimizer, for modify_onnx.py --with auto-optimizer
surgeon: auto-optimizer

$(OPTIMIZER)/.ready: requirements-auto-optimizer.lock
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 8) <= sys.version_info < (3, 12) else 3)' || { \
	  echo "auto-optimizer needs ONNX Runtime 1.15, which exists for Python 3.8 to 3.11; $(PYTHON) is $$($(PYTHON) -V 2>&1). Run: make auto-optimizer PYTHON=python3.11" >&2; exit 3; }
	$(PYTHON) -m venv --clear $(OPTIMIZER)
	$(OPTIMIZER)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-auto-optimizer.lock
	$(OPTIMIZER)/bin/python export/auto_optimizer/bridge.py
	@touch $@

lock: ## resolve requirements.lock and requirements-extras.lock anew for all Pythons and both processors (needs uv)
	uv pip compile --quiet --universal --python-version 3.10 --no-annotate --no-header --extra dev \
	  pyproject.toml | grep -vE '^(nvidia|cuda|triton)' > requirements.lock
	uv pip compile --quiet --universal --python-version 3.10 --no-annotate --no-header --extra dev --extra openvino --extra ray \
	  --constraint requirements.lock pyproject.toml | grep -vE '^(nvidia|cuda|triton)' | grep -vxFf requirements.lock > requirements-extras.lock

doctor: ## what hardware and tools are here, and which stages they allow (NEED="om score" exits 3 if impossible)
	$(if $(wildcard $(RUN)),$(RUN),$(PYTHON)) -m vidom.doctor $(if $(NEED),--need $(NEED))

demo: $(READY) ## the whole pipeline on generated videos: a real accuracy number without any download
	$(RUN) -m demo --output_dir run/tsm_demo

demo-train: $(READY) ## train the demo's TSM and its control anew, minutes on two cores
	$(RUN) -m demo.train

test: $(READY) $(EXTRAS) ## run all tests
	$(RUN) -m pytest

lint: $(READY) ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(READY) ## let ruff format and repair what it can
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

data: $(NEEDED) ## DATASET=sthv2|ucf101|ucf101_66|kinetics400|folder SRC -> frames, lists and label files in OUT
	$(RUN) preprocess/prepare.py --dataset "$(DATASET)" --src "$(SRC)" --out "$(OUT)" $(CLUSTER) $(DATA_ARGS)

data-audit: $(READY) ## open every sample of ANN below DATA_ROOT; report in OUT/audit.json, exit 1 if there are faults
	$(RUN) preprocess/audit.py --ann_file "$(ANN)" --data_root "$(DATA_ROOT)" $(if $(LABELS),--labels "$(LABELS)") \
	  --report "$(OUT)/audit.json"

preprocess: $(NEEDED) ## DATA_ROOT + ANN -> clip store of tensors
	$(RUN) preprocess/pack.py $(FROM) $(PER_VIEW) --data_root "$(DATA_ROOT)" --ann_file "$(ANN)" --output_dir "$(STORE)" --dtype $(DTYPE) $(CLUSTER)

export: $(READY) ## CKPT -> ONNX with softmax -> graph surgery -> proof that all agree
	$(RUN) export/to_onnx.py $(FROM) $(PER_VIEW) $(INPUT) --checkpoint "$(CKPT)" --batch_size $(BS) --output $(NAIVE)
	$(RUN) export/modify_onnx.py -m1 $(NAIVE) -m2 $(FINAL) -bs $(BS) --target $(TARGET)
	$(RUN) export/verify.py $(FROM) $(PER_VIEW) $(INPUT) --checkpoint "$(CKPT)" --model $(NAIVE) $(FINAL)
	@if command -v atc > /dev/null; then $(MAKE) --no-print-directory om; else \
	  echo "No .om was made, since atc is not on PATH; make doctor says what to install, make om DRY_RUN=1 writes its command."; fi

om: $(READY) ## ONNX -> .om with ATC (SOC=310P3, else what npu-smi shows; DRY_RUN=1 writes commands.sh only)
	$(if $(wildcard $(NAIVE)),$(RUN) export/modify_onnx.py -m1 $(NAIVE) -m2 $(FINAL) -bs $(BS) --target ascend310p)
	$(RUN) export/to_om.py --model $(FINAL) --output $(OM) --batch_size $(BS) \
	  $(if $(SOC)$(DRY_RUN),--soc_version $(or $(SOC),Ascend310P3)) $(if $(DRY_RUN),--dry_run)

verify: $(READY) ## compare torch, ONNX and modified ONNX once more
	$(RUN) export/verify.py $(FROM) $(PER_VIEW) $(INPUT) --checkpoint "$(CKPT)" --model $(NAIVE) $(FINAL)

infer: $(NEEDED) ## run the model over the clip store
	$(RUN) -m infer $(RUNS) --input $(STORE)/clips --output $(OUT)/result --output_dirname bs$(BS) --outfmt $(OUTFMT)

score: $(READY) ## top-1 and top-5 of what infer wrote
	$(RUN) postprocess/score.py --result_path $(OUT)/result/bs$(BS)_summary.json --info_path $(STORE)/*.info

evaluate: $(NEEDED) ## DATA_ROOT + ANN -> top-1 and top-5 without a tensor on disk (LIMIT, COMPARE, RAY=local, WINDOW for an NPU)
	$(RUN) -m infer.evaluate $(FROM) $(RUNS) --data_root "$(DATA_ROOT)" --ann_file "$(ANN)" --output_dir $(OUT)/evaluation$(if $(LIMIT),_$(LIMIT)) \
	  $(if $(LIMIT),--limit $(LIMIT)) $(if $(COMPARE),--compare $(COMPARE)) $(if $(WINDOW),--window $(WINDOW)) $(CLUSTER)

bench: $(NEEDED) ## pure-performance loop; BATCHES="1 4 8" for the table of accuracy and speed by batch size
ifeq ($(strip $(BATCHES)),)
	$(RUN) -m infer $(RUNS) --loop $(LOOP)
else
	$(RUN) -m benchmarks.batch_table $(FROM) $(INPUT) --checkpoint "$(CKPT)" --batches $(BATCHES) $(ON) --loop $(LOOP) \
	  $(if $(wildcard $(STORE)/manifest.json),--store $(STORE)) $(if $(SOC),--soc_version $(SOC)) --output_dir $(OUT)/bench
endif

bench-all: $(READY) $(EXTRAS) ## all measurements, as ratios taken in turn, into benchmarks/RESULTS.md; needs a quiet machine
	$(RUN) -m benchmarks $(if $(FRAMES),--frames $(FRAMES)) $(if $(ZOO_PYTHON),--modelzoo_python $(ZOO_PYTHON))

predict: $(NEEDED) ## top-5 classes with names for one VIDEO
	$(RUN) -m infer.predict $(FROM) --model $(FINAL) --video "$(VIDEO)" $(if $(filter openvino,$(ENGINE)),--engine openvino $(if $(PRECISION),--precision $(PRECISION)))

data-drift: $(READY) ## what another decoder or resizer changes for one VIDEO: pixels, and scores if the model is built
	$(RUN) -m infer.drift $(FROM) --video "$(VIDEO)" $(if $(wildcard $(FINAL)),--model $(FINAL))

models: $(READY) ## the recipes, their published accuracy and where their weights are
	$(RUN) -m vidom.models

inspect: $(READY) ## what a checkpoint FILE holds (.pth .pdparams .pdiparams .ckpt .mindir), and which recipes it fits
	$(RUN) -m networks inspect "$(or $(FILE),$(CKPT))"

clean: ## remove what was built and computed, keep .venv
	rm -rf om_models/build run .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

distclean: clean ## remove .venv too
	rm -rf $(VENV) $(OPTIMIZER)
