# vidom: each target prints the `vidom` command that it runs. `make help` explains targets and variables.

MODEL   ?= tsm_sthv2
BS      ?= 1
ENGINE  ?= auto
DEVICE  ?= 0
DTYPE   ?= float32
VIEWS   ?= all
OUTFMT  ?= NPY
LOOP    ?= 20
TORCH   ?= cpu
PYTHON  ?= python3

#: MODEL      recipe in om_models/; `make models` lists them
#: BS         batch size, with ENGINE=torch that of each device
#: CKPT       checkpoint file, or seeded:0 for seeded random weights
#: IGNORE_META  1: load a CKPT although its own training configuration contradicts the recipe
#: DATA_ROOT  folder of the videos or frame folders that ANN names
#: ANN        annotation list: 'folder frames label' or 'video label' per line
#: VAL_ROOT   the folder of the validation list, for train (DATA_ROOT)
#: VAL_ANN    validation list, for train
#: CARDS      devices of train: 8 for the first eight, or 0,1,5
#: AMP        precision of train: no, bf16 or fp16 (the recipe's)
#: STEPS      end train after so many steps: a performance run
#: RESUME     1: train only if there is something to continue
#: DATASET    sthv2, ucf101, ucf101_66, kinetics400 or folder, for data
#: SRC        folder of the downloads, for data; it is never written to
#: DATA_ARGS  further options of data, e.g. '--on_bad skip --fps 25'
#: LABELS     file of class names, for data-audit
#: OUT        folder of the clip store and the results (run/MODEL); for convert, the file to write
#: STORE      clip store (OUT/store)
#: DTYPE      float32; uint8: a quarter of the bytes, the graph normalises; aipp: the NPU does (experimental, TSM and PP-TSM)
#: VIEWS      one: a file and a model row for each view, averaged by score; for samples too large for one tensor
#: SET        recipe overrides, e.g. SET='head.average_clips=prob'
#: ENGINE     auto, onnxruntime, openvino, ascend, cann (onnxruntime-cann of the Python CANN_PYTHON) or torch (the network of CKPT before any export); auto takes the NPU if it, ais_bench and the .om are available
#: DEVICE     device number of the NPU, of torch's GPU or of PROVIDER; with ENGINE=ascend or torch several as 0,1
#: PROVIDER   execution provider of ONNX Runtime, e.g. CUDA; default: the CPU
#: PRECISION  of ENGINE=openvino or torch: f32, or bf16 on hardware that supports it
#: PRECISION_MODE  of ENGINE=cann: force_fp16 (its default), force_fp32, …
#: TARGET     what a graph is optimized for, cpu or ascend310p (default: ascend310p where atc is on PATH); om always takes the latter
#: SOC        chip for om, e.g. 310P3; detected by npu-smi if omitted
#: DRY_RUN    1: om prints the ATC command and writes commands.sh only
#: OUTFMT     NPY, BIN or TXT, the format of the outputs
#: LOOP       repeats of the pure-performance loop
#: BATCHES    batch sizes of the bench table, e.g. '1 4 8 16 32'
#: LIMIT      size of the stratified subset for evaluate
#: COMPARE    folder of a reference evaluation to compare with, sample by sample
#: WINDOW     bytes of clips on disk at a time, e.g. 2GB, for evaluate ENGINE=ascend
#: RAY        local, or the address of a Ray cluster, for data, preprocess and evaluate
#: VIDEO      one video file, for predict and data-drift; for predict also a folder of videos
#: ANSWERS    file for the answers of predict: .csv or .json
#: FILE       checkpoint or ONNX file, for inspect
#: NEED       stages that doctor must report as possible, e.g. 'om score'
#: FRAMES     folders of extracted frames, one per video, for bench-all
#: ZOO_PYTHON a Python 3.7 with numpy 1.21, ModelZoo's own, for bench-all
#: TORCH      build of torch for setup, cpu or cuda
#: PYTHON     interpreter that .venv is made from
#: PIP_ARGS   further arguments of pip during setup, e.g. a mirror

VENV  := .venv
VIDOM := $(VENV)/bin/vidom
RUN   := $(VENV)/bin/python
READY := $(VENV)/.ready
EXTRAS := $(VENV)/.extras
OPTIMIZER := .venv-auto-optimizer
# What a command needs besides .venv: OpenVINO or Ray if it names them.
NEEDED := $(READY) $(if $(RAY)$(filter openvino,$(ENGINE)),$(EXTRAS))
given = $(if $($(2)),$(1) "$($(2))")
SETS  := $(foreach entry,$(SET),--set '$(entry)')
FILES := $(strip $(MODEL) --batch_size $(BS) --dtype $(DTYPE) $(if $(filter one,$(VIEWS)),--per_view) $(call given,--out,OUT) $(call given,--store,STORE))
WEIGHTS := --checkpoint "$(CKPT)" $(if $(IGNORE_META),--ignore_meta)
ON    := $(strip --engine $(ENGINE) --device $(DEVICE) $(call given,--provider,PROVIDER) $(call given,--precision,PRECISION) $(call given,--precision_mode,PRECISION_MODE) $(if $(filter torch,$(ENGINE)),$(WEIGHTS)))
# torch needs the recipe where the other engines read a model.
RUN_ON := $(strip $(if $(filter torch,$(ENGINE)),$(SETS)) $(ON))
LISTED := --data_root "$(DATA_ROOT)" --ann_file "$(ANN)" $(call given,--ray,RAY)
FOLDER := $(or $(OUT),run/$(basename $(notdir $(MODEL))))

.DEFAULT_GOAL := help
.PHONY: help setup extras train auto-optimizer surgeon lock doctor demo demo-train test test-fast lint format data data-audit preprocess export om verify infer score bench bench-all evaluate predict data-drift models inspect convert clean distclean

help: ## show this text
	@echo "usage: make TARGET [VARIABLE=value ...]"; echo; echo "targets"
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | awk -F'\t' '{printf "%-16s %s\n", $$1, $$2}'
	@echo; echo "variables"; sed -nE 's/^#: /  /p' $(MAKEFILE_LIST)

setup: $(READY) ## create .venv with the locked packages; prints what it downloads

$(READY): requirements.lock requirements-torch.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m vidom.setup_environment --torch $(TORCH) $(if $(PIP_ARGS),-- $(PIP_ARGS))
	@touch $@

extras: $(EXTRAS) ## add the optional packages to .venv: OpenVINO, Ray, and those of train (about 200 MB)

$(EXTRAS): $(READY) requirements-extras.lock
	$(RUN) -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) --no-deps --require-hashes -r requirements-extras.lock
	@touch $@

auto-optimizer: $(OPTIMIZER)/.ready ## create .venv-auto-optimizer, for modify_onnx.py --with auto-optimizer
surgeon: auto-optimizer

$(OPTIMIZER)/.ready: requirements-auto-optimizer.lock
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 8) <= sys.version_info < (3, 12) else 3)' || { \
	  echo "auto-optimizer needs ONNX Runtime 1.15, which exists for Python 3.8 to 3.11; $(PYTHON) is $$($(PYTHON) -V 2>&1). Run: make auto-optimizer PYTHON=python3.11" >&2; exit 3; }
	$(PYTHON) -m venv --clear $(OPTIMIZER)
	$(OPTIMIZER)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-auto-optimizer.lock
	$(OPTIMIZER)/bin/python export/auto_optimizer/bridge.py
	@touch $@

PINNED := uv pip compile --quiet --universal --no-annotate --no-header --generate-hashes
BLOCKS := /^[^ ]/ {keep = !($$0 in seen) && !/^(nvidia|cuda|triton|torch)/} keep
lock: ## resolve the locks anew, with hashes for all Pythons and both processors (needs uv); torch is pinned in requirements-torch.lock
	$(PINNED) --python-version 3.10 --extra dev pyproject.toml | awk '$(BLOCKS)' > requirements.lock
	$(PINNED) --python-version 3.10 --extra dev --extra openvino --extra ray --extra train --extra objects --extra servers --constraint requirements.lock pyproject.toml \
	  | awk 'NR == FNR {seen[$$0]; next} $(BLOCKS)' requirements.lock - > requirements-extras.lock

doctor: ## report hardware, tools and the stages that they allow (NEED="om score" exits 3 if impossible)
	$(if $(wildcard $(RUN)),$(RUN),$(PYTHON)) -m vidom.doctor $(if $(NEED),--need $(NEED))

demo: $(READY) ## run the complete pipeline on generated videos: a real accuracy without any download
	$(VIDOM) demo --output_dir run/tsm_demo

demo-train: $(EXTRAS) ## train the demo's TSM and its control, minutes on two cores
	$(RUN) -m demo.train_networks --recipe tsm_demo --output_dir run/tsm_demo/training
	cp run/tsm_demo/training/*.pth demo/checkpoints/

# Each folder in processes of its own, so that the native libraries of one do not meet those of all others.
TESTS := $(sort $(dir $(wildcard tests/*/test_*.py)))
test: $(READY) $(EXTRAS) ## run all tests, on all cores
	@failed=; for part in $(TESTS) "$(wildcard tests/test_*.py)"; do \
	  $(RUN) -m pytest --numprocesses logical --dist worksteal $$part || failed="$$failed $$part"; \
	done; if [ -n "$$failed" ]; then echo "failed:$$failed" >&2; exit 1; fi

test-fast: $(READY) ## run the tests that are not marked slow: the inner loop
	$(RUN) -m pytest -m "not slow" --numprocesses logical --dist worksteal

lint: $(READY) ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(READY) ## fix with ruff what it can
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

data: $(NEEDED) ## DATASET=sthv2|ucf101|ucf101_66|kinetics400|folder SRC -> frames, lists and label files in OUT
	$(VIDOM) data --dataset "$(DATASET)" --src "$(SRC)" --out "$(FOLDER)" $(call given,--ray,RAY) $(DATA_ARGS)

data-audit: $(READY) ## open every sample of ANN below DATA_ROOT (with MODEL, as its recipe names frames and classes); report in OUT/audit.json, exit 1 on faults
	$(VIDOM) audit --ann_file "$(ANN)" --data_root "$(DATA_ROOT)" $(if $(findstring file,$(origin MODEL)),,--recipe $(MODEL)) $(SETS) $(call given,--labels,LABELS) --report "$(FOLDER)/audit.json"

preprocess: $(NEEDED) ## DATA_ROOT + ANN -> clip store of tensors
	$(VIDOM) preprocess $(FILES) $(SETS) $(LISTED)

train: $(EXTRAS) ## DATA_ROOT + ANN (VAL_ROOT + VAL_ANN) -> checkpoint in OUT/training; CKPT, CARDS, AMP, STEPS, RESUME; the same line continues
	$(VIDOM) train $(MODEL) $(call given,--out,OUT) $(SETS) --data_root "$(DATA_ROOT)" --ann_file "$(ANN)" $(call given,--val_root,VAL_ROOT) $(call given,--val_ann,VAL_ANN) \
	  $(call given,--checkpoint,CKPT) $(call given,--cards,CARDS) $(call given,--precision,AMP) $(call given,--steps,STEPS) $(if $(RESUME),--resume)

convert: $(READY) ## CKPT -> OUT: the same weights as mmaction2's .pth, PaddleVideo's .pdparams (PP-TSM) or MindSpore's .ckpt (StNet)
	$(VIDOM) convert "$(CKPT)" "$(OUT)"

export: $(READY) ## CKPT -> ONNX with softmax -> optimized graph -> parity check; .om where atc is on PATH
	$(VIDOM) export $(FILES) $(SETS) $(WEIGHTS) $(call given,--target,TARGET) $(call given,--soc_version,SOC)

om: $(READY) ## ONNX -> .om with ATC (SOC=310P3, else detected; DRY_RUN=1 writes commands.sh only)
	$(VIDOM) om $(FILES) $(if $(SOC)$(DRY_RUN),--soc_version $(or $(SOC),Ascend310P3)) $(if $(DRY_RUN),--dry_run)

verify: $(READY) ## compare torch, the exported and the optimized model again
	$(VIDOM) verify $(FILES) $(SETS) $(WEIGHTS)

infer: $(NEEDED) ## run the model over the clip store
	$(VIDOM) infer $(FILES) $(RUN_ON) --outfmt $(OUTFMT)

score: $(READY) ## top-1 and top-5 of the outputs of infer
	$(VIDOM) score $(FILES)

evaluate: $(NEEDED) ## DATA_ROOT + ANN -> top-1 and top-5 without tensors on disk (LIMIT, COMPARE, RAY=local, WINDOW for an NPU; ENGINE=torch CKPT before any export)
	$(VIDOM) evaluate $(FILES) $(SETS) $(ON) $(LISTED) $(call given,--limit,LIMIT) $(call given,--compare,COMPARE) $(call given,--window,WINDOW)

bench: $(NEEDED) ## pure-performance loop; BATCHES="1 4 8" for the table of accuracy and speed by batch size
	$(VIDOM) bench $(FILES) $(RUN_ON) --loop $(LOOP) \
	  $(if $(BATCHES),--batches $(BATCHES) $(SETS) $(WEIGHTS) $(call given,--soc_version,SOC))

bench-all: $(READY) $(EXTRAS) ## all benchmarks (interleaved ratios) into benchmarks/RESULTS.md; needs an idle machine
	$(RUN) -m benchmarks --frames $(or $(FRAMES),$(wildcard tests/fixtures/synth/*)) $(if $(ZOO_PYTHON),--modelzoo_python $(ZOO_PYTHON))

predict: $(NEEDED) ## the five most likely classes of VIDEO, or of each video in that folder (ANSWERS=answers.csv)
	$(VIDOM) predict $(FILES) $(SETS) $(ON) --video "$(VIDEO)" $(call given,--output,ANSWERS)

data-drift: $(READY) ## what a different decoder or resizer changes for one VIDEO: pixels, and scores if the model is built
	$(VIDOM) drift $(FILES) $(SETS) --video "$(VIDEO)"

models: $(READY) ## list the recipes, their published accuracy and where to download their weights
	$(VIDOM) models

inspect: $(READY) ## describe a checkpoint or ONNX FILE and the recipes that it fits
	$(VIDOM) inspect "$(or $(FILE),$(CKPT))"

clean: ## remove what was built and computed, keep .venv
	rm -rf om_models/build run .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

distclean: clean ## remove .venv too
	rm -rf $(VENV) $(OPTIMIZER)
