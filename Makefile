# make demo                    install, train Mask R-CNN with SecViT on digits, evaluate, draw
# make demo-points             install, train ConDaFormer on rooms and FlatFormer on LiDAR sweeps, draw
# make test                    install, run the whole test suite
# make test DIST=openmmlab     the same on the official OpenMMLab packages (default: the onedl forks)
# make lint                    what the pre-commit hooks check
#
# Environments live in .venv/: torch once in .venv/torch, and one environment per distribution beside it
# that finds torch through a .pth file. Activate one with `source .venv/onedl/bin/activate`.

DIST ?= onedl
PYTHON ?= python3
WORK_DIR ?= work_dirs/mask_rcnn_secvit_demo
PYTEST_ARGS ?=

ifeq ($(filter $(DIST),onedl openmmlab),)
$(error DIST=$(DIST) is not known; choose DIST=onedl (the maintained forks) or DIST=openmmlab (the official packages))
endif

ENV := .venv/$(DIST)
comma := ,
PIP_INSTALL := -m pip install --disable-pip-version-check --constraint requirements/constraints.txt
INPUTS := pyproject.toml setup.py requirements/constraints.txt

.PHONY: demo demo-points demo-rooms demo-sweeps test testable lint install clean

install: $(ENV)/installed

.venv/torch/installed: requirements/constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 10) and f"mmeffvit needs Python >= 3.10, and $(PYTHON) is {v.major}.{v.minor}; run: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv/torch
	.venv/torch/bin/python $(PIP_INSTALL) torch torchvision
	@touch $@

# Both opencv wheels own the same files; the headless one, installed last, needs no libGL.
HEADLESS_OPENCV = $(ENV)/bin/python $(PIP_INSTALL) --force-reinstall --no-deps opencv-python-headless

$(ENV)/installed: .venv/torch/installed $(INPUTS)
	.venv/torch/bin/python -m venv $(ENV)
	@.venv/torch/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> "$$($(ENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/shared_torch.pth"
	$(ENV)/bin/python $(PIP_INSTALL) --editable '.[$(DIST),data,demo]' setuptools
	$(HEADLESS_OPENCV)
	@touch $@

# What only tests need. mmrotate exists for the maintained forks alone.
TEST_EXTRAS := test$(if $(filter onedl,$(DIST)),$(comma)rotate)

$(ENV)/testable: $(ENV)/installed
	$(ENV)/bin/python $(PIP_INSTALL) --editable '.[$(DIST),data,demo,$(TEST_EXTRAS)]' setuptools
	$(HEADLESS_OPENCV)
	@touch $@

testable: $(ENV)/testable

test: testable
	$(ENV)/bin/python -m pytest $(PYTEST_ARGS)

demo: install
	$(ENV)/bin/python tools/train.py configs/demo/mask_rcnn_secvit_demo.py --work-dir $(WORK_DIR)

# Two threads hardly speed these small networks up: one each, side by side.
demo-points: install
	OMP_NUM_THREADS=1 $(MAKE) --jobs 2 demo-rooms demo-sweeps

demo-rooms: install
	$(ENV)/bin/python tools/train.py configs/demo/condaformer_rooms_demo.py
	$(ENV)/bin/python tools/train.py configs/demo/condaformer_hybrid_rooms_demo.py

demo-sweeps: install
	$(ENV)/bin/python tools/train.py configs/demo/flatformer_sweeps_demo.py

lint: testable
	$(ENV)/bin/python -m ruff check .
	$(ENV)/bin/python -m ruff format --check .

clean:
	rm -rf .venv build *.egg-info mmeffvit/.mim
