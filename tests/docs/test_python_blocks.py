"""Every block of Python in the documents runs, or builds what it configures.

A block without imports is a config. The others are programs: they run in a folder that has the
files which the text assumes. What takes longer than a test may is run by the test that is named.
"""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from PIL import Image

from maintenance import shapes
from mmeffvit import compat
from mmeffvit.checkpoint import write_checkpoint
from mmeffvit.checkpoint.by_name import converted_path
from mmeffvit.models.classifier import create_classifier
from mmeffvit.models.weights import find_weights_file
from tests.tools import runs

from .documents import ROOT, WALKED_THROUGH, python_blocks

#: programs, by a line of theirs, that other tests run
ELSEWHERE = {
    'torch.compile(mmeffvit.create_backbone("ravlt-tiny")': "models/backbones/test_compile.py",
    'OnnxModel("digits.onnx")': "deploy/test_tool.py",
    "torch.onnx.export(program, dynamo=True)": "models/backbones/test_export.py",
    "@register_drawing(MyMixer)": "visualization/test_attention.py",
}
#: a detector that a config without one goes into
DETECTOR = "mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py"


def is_config(block):
    return "import " not in block.text and "torch." not in block.text


def programs():
    return [b for b in python_blocks() if not is_config(b) and b.document not in WALKED_THROUGH]


def configs():
    return [b for b in python_blocks() if is_config(b) and b.document not in WALKED_THROUGH]


def place(block):
    return block.place


def write_image(path, size=(48, 64)):
    pixels = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What the documents take for granted: images, weights, a config with its checkpoint."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("MMEFFVIT_HOME", str(tmp_path / "home"))
    # as in a new process: no scope is the default one
    monkeypatch.setattr(DefaultScope, "_instance_dict", OrderedDict())
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    return tmp_path


def prepare(block, folder):
    if '"image.jpg"' in block.text:
        write_image(folder / "image.jpg")
        write_checkpoint(create_classifier("secvit-tiny").state_dict(), "secvit-tiny.safetensors")
    if 'weights="in1k"' in block.text:  # a file that nobody has trained, where it is kept
        file = find_weights_file("ravlt-tiny/in1k")
        write_checkpoint(create_classifier("ravlt-tiny").state_dict(), converted_path(file))
    if '"data/cells"' in block.text:
        shapes.write_coco(folder / "data/cells")
    if '"street.jpg"' in block.text:
        write_image(folder / "street.jpg", (240, 360))
    if '"checkpoint.pth"' in block.text:
        for name in ("a.jpg", "b.jpg"):
            write_image(folder / name)
        config = runs.write_config(folder, name="config.py")
        cfg = Config.fromfile(config)
        with DefaultScope.overwrite_default_scope("mmdet"):
            model = MODELS.build(cfg.model)
        classes = tuple(str(i) for i in range(80))
        meta = {"dataset_meta": {"classes": classes, "palette": [(0, 0, 0)] * 80}}
        torch.save({"state_dict": model.state_dict(), "meta": meta}, folder / "checkpoint.pth")


@pytest.mark.parametrize("block", programs(), ids=place)
def test_program(block, folder):
    for line, test in ELSEWHERE.items():
        if line in block.text:
            compile(block.text, block.place, "exec")
            assert (ROOT / "tests" / test).is_file()
            return
    prepare(block, folder)
    names = {}
    exec(compile(block.text, block.place, "exec"), names)
    assert len(names) > 1


def build(cfg):
    # upstream's Swin and TNT ask for numbers, which a tensor without values has not
    upstream = any(name in cfg.model.backbone.type for name in ("Swin", "TNT"))
    device = torch.device("cpu" if upstream else "meta")
    with DefaultScope.overwrite_default_scope(cfg.default_scope), device:
        return MODELS.build(cfg.model)


@pytest.mark.parametrize("block", configs(), ids=place)
def test_config(block, folder):
    compat.setup()
    text = block.text
    if "_base_" not in text and "model = " in text:
        text = f'_base_ = "{DETECTOR}"\n{text}'
    (folder / "mine.py").write_text(text)
    cfg = Config.fromfile(folder / "mine.py")
    known = 0
    if "model" in cfg:
        network = build(cfg)
        for key in ("backbone", "neck", "head", "decode_head"):
            assert (getattr(network, key, None) is not None) == (cfg.model.get(key) is not None)
        known += 1
    if "backbone" in cfg:
        with torch.device("meta"):
            assert MODELS.build(cfg.backbone)
        known += 1
    if "init_cfg" in cfg:
        check_init_cfg(cfg.init_cfg)
        known += 1
    if "constructor" in cfg.get("optim_wrapper", {}) or "paramwise_cfg" in cfg:
        check_optimizer(cfg)
        known += 1
    assert known, f"{block.place}: nothing here can check this config"


def check_init_cfg(init_cfg):
    """The checkpoint is the last one of a config of this repository."""
    folder, name, epoch = init_cfg.checkpoint.split("/")
    (path,) = ROOT.glob(f"configs/**/{name}.py")
    cfg = Config.fromfile(path)
    assert (folder, epoch) == ("work_dirs", f"epoch_{cfg.train_cfg.max_epochs}.pth")
    network = build(cfg)
    assert any(key.startswith(init_cfg.prefix) for key in network.state_dict())


def check_optimizer(cfg):
    with torch.device("meta"):
        network = create_classifier("secvit-tiny")
    wrapper = cfg.get("optim_wrapper") or ConfigDict(
        type="OptimWrapper",
        optimizer={"type": "AdamW", "lr": 1e-4, "weight_decay": 0.05},
        constructor="mmeffvit.LayerDecayOptimWrapperConstructor",
        paramwise_cfg=cfg.paramwise_cfg,
    )
    groups = build_optim_wrapper(network, wrapper).param_groups
    rates, decays = ({group[key] for group in groups} for key in ("lr", "weight_decay"))
    assert len(rates) > 1
    assert 0 in decays
