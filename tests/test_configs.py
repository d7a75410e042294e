"""Every config builds: model, optimizer and pipelines; one of each kind takes a training step."""

import copy
import functools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, MODELS, PARAM_SCHEDULERS, DefaultScope
from mmengine.structures import InstanceData

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "configs").rglob("*.py")
    if "_base_" not in path.parts
)
SECVIT = [name for name in CONFIGS if name.startswith("configs/secvit/")]

KINDS = (
    "mask-rcnn_secvit-{}_fpn_1x_coco",
    "mask-rcnn_secvit-{}_fpn_ms-3x_coco",
    "cascade-mask-rcnn_secvit-{}_fpn_ms-3x_coco",
    "retinanet_secvit-{}_fpn_1x_coco",
)
VARIANTS = {
    "t": ("tiny", 0.1, (64, 128, 256, 512)),
    "s": ("small", 0.15, (64, 128, 256, 512)),
    "b": ("base", 0.4, (80, 160, 320, 512)),
    "l": ("large", 0.5, (112, 224, 448, 640)),
}


@pytest.fixture(autouse=True)
def _mmdet_scope():
    with DefaultScope.overwrite_default_scope("mmdet"):
        yield


@functools.cache
def _read(name):
    return Config.fromfile(ROOT / name)


def _load(name):
    return copy.deepcopy(_read(name))


@pytest.mark.parametrize("name", CONFIGS)
def test_builds(name):
    cfg = _load(name)
    with torch.device("meta"):  # shapes without weights: the large ones cost no more
        model = MODELS.build(cfg.model)
    assert tuple(model.backbone.out_channels) == tuple(cfg.model.neck.in_channels)

    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    groups = wrapper.optimizer.param_groups
    optimized = [id(param) for group in groups for param in group["params"]]
    assert sorted(optimized) == sorted(id(param) for param in model.parameters())

    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert Compose(loader.dataset.pipeline).transforms
    for hook in cfg.get("custom_hooks", []):
        assert HOOKS.build(hook)
    for scheduler in cfg.param_scheduler:
        assert scheduler.type in PARAM_SCHEDULERS
        if scheduler.type == "MultiStepLR":
            assert max(scheduler.milestones) < scheduler.end == cfg.train_cfg.max_epochs


def test_all_kinds_and_variants_are_there():
    expected = [f"configs/secvit/{kind.format(key)}.py" for kind in KINDS for key in VARIANTS]
    assert sorted(expected) == SECVIT


@pytest.mark.parametrize("name", SECVIT)
def test_name_says_what_is_inside(name):
    cfg = _load(name)
    letter = re.search(r"_secvit-(\w)_", name).group(1)
    arch, drop_path_rate, channels = VARIANTS[letter]
    backbone = cfg.model.backbone
    assert (backbone.type, backbone.arch) == ("mmeffvit.SecViT", arch)
    assert backbone.drop_path_rate == drop_path_rate
    assert backbone.out_norm is True
    assert tuple(cfg.model.neck.in_channels) == tuple(channels[i] for i in backbone.out_indices)
    detector = {"mask": "MaskRCNN", "cascade": "CascadeRCNN", "retinanet": "RetinaNet"}
    assert cfg.model.type == detector[re.split("[-_]", Path(name).name)[0]]
    assert cfg.train_cfg.max_epochs == {"1x": 12, "3x": 36}[re.search(r"\dx", name).group()]
    resizes = re.findall(r"RandomChoiceResize", cfg.train_dataloader.dataset.pipeline.__repr__())
    assert bool(resizes) == ("ms-" in name)


def test_front_door_is_its_sibling():
    front, sibling = (
        _load(f"configs/{name}.py")
        for name in ("mask_rcnn_secvit", "secvit/mask-rcnn_secvit-t_fpn_1x_coco")
    )
    assert front.to_dict() == sibling.to_dict()


def _weight_decay(cfg):
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    names = {id(param): name for name, param in model.named_parameters()}
    return {
        names[id(param)]: group["weight_decay"]
        for group in wrapper.optimizer.param_groups
        for param in group["params"]
    }


def test_weight_decay_of_mask_rcnn():
    decay = _weight_decay(_load("configs/mask_rcnn_secvit.py"))
    assert set(decay.values()) == {0.0, 0.05}
    spared = {name for name, value in decay.items() if value == 0}
    assert spared == {name for name in decay if "norm" in name}
    for part in ("blocks.0.norm1", "downsample.norm", "out_norms"):
        assert any(part in name for name in spared), part


def test_weight_decay_of_cascade():
    decay = _weight_decay(_load("configs/secvit/cascade-mask-rcnn_secvit-t_fpn_ms-3x_coco.py"))
    batch_norms = [name for name in decay if "bbox_head" in name and ".bn." in name]
    assert len(batch_norms) == 3 * 4 * 2  # stages, convolutions, weight and bias
    assert {decay[name] for name in batch_norms} == {0.0}
    assert decay["roi_head.mask_head.0.conv_logits.weight"] == 0.05


def test_weight_decay_of_retinanet():
    decay = _weight_decay(_load("configs/secvit/retinanet_secvit-t_fpn_1x_coco.py"))
    assert set(decay.values()) == {0.0001}


def _batch(with_masks):
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    height, width = 64, 96
    boxes = torch.tensor([[8.0, 8.0, 40.0, 40.0], [32.0, 8.0, 96.0, 60.0]])
    masks = np.zeros((len(boxes), height, width), dtype=np.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
        mask[top:bottom, left:right] = 1
    sample = DetDataSample(metainfo={"img_shape": (height, width), "ori_shape": (height, width)})
    sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([0, 7]))
    if with_masks:
        sample.gt_instances.masks = BitmapMasks(masks, height, width)
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    return {"inputs": [image], "data_samples": [sample]}


@pytest.mark.parametrize("kind", [KINDS[0], *KINDS[2:]])
def test_one_step(kind):
    """The loss is finite, and no parameter is left without a gradient."""
    cfg = _load(f"configs/secvit/{kind.format('t')}.py")
    cfg.model.backbone.arch = {
        "embed_dims": (64, 128, 256, 512),
        "depths": (1, 1, 1, 1),
        "num_heads": (2, 4, 8, 16),
        "mlp_ratios": (1, 1, 1, 1),
        "num_clusters": (4, 2, 2, -1),
        "layer_scale": (False,) * 4,
    }
    if "rpn_proposal" in cfg.model.train_cfg:  # a few regions, for speed
        stages = cfg.model.train_cfg.rcnn
        for stage in stages if isinstance(stages, list) else [stages]:
            stage.sampler.num = 8
        cfg.model.train_cfg.rpn_proposal.max_per_img = 50
    model = revert_sync_batchnorm(MODELS.build(cfg.model))  # as the runner does outside of DDP
    model.train()
    data = model.data_preprocessor(_batch("retinanet" not in kind), training=True)
    losses = model(**data, mode="loss")
    loss, log = model.parse_losses(losses)
    assert all(np.isfinite(value.item()) for value in log.values()), log
    loss.backward()
    without = [name for name, param in model.named_parameters() if param.grad is None]
    assert without == []


def test_model_index():
    """Every config is in its folder's metafile, and every metafile in the model index."""
    index = yaml.safe_load((ROOT / "model-index.yml").read_text())["Import"]
    assert sorted(index) == sorted(
        path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").glob("*/metafile.yml")
    )
    models = []
    for metafile in index:
        models += yaml.safe_load((ROOT / metafile).read_text())["Models"]
    assert sorted(model["Config"] for model in models) == SECVIT
    for model in models:
        assert model["Name"] == Path(model["Config"]).stem
        assert (ROOT / model["README"]).is_file()
    readme = (ROOT / "configs/secvit/README.md").read_text()
    for name in SECVIT:
        assert f"({Path(name).name})" in readme, name
