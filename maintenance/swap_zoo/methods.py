"""The methods of the installed mmdet and mmseg, and one config of each to try a swap on."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from mmeffvit.swap.locate import find_owner

TOOLBOXES = ("mmdet", "mmseg")
#: backbones whose stages make maps of strides 4, 8, 16 and 32
_PYRAMID = re.compile(
    r"ResNet|ResNeXt|Res2Net|ResNeSt|RegNet|Swin|PyramidVision|PVT|SVT|MixVision|ConvNeXt|PoolFormer|MSCAN"
)
#: small and plain ones first
_FIRST = re.compile(r"r18|r50|swin-?t|convnext-t|mit-b0|pvt-t|_s50|res2net-101|regnetx-400")
#: where the first choice is not typical for the folder
_CHOSEN = {
    "mmdet/cascade_rpn": "cascade-rpn_faster-rcnn_r50-caffe_fpn_1x_coco.py",
    "mmdet/dcn": "faster-rcnn_r50-dconv-c3-c5_fpn_1x_coco.py",
    "mmdet/dcnv2": "faster-rcnn_r50-mdconv-c3-c5_fpn_1x_coco.py",
    "mmdet/detectors": "cascade-rcnn_r50-sac_1x_coco.py",
    "mmdet/fpg": "faster-rcnn_r50_fpg_crop640-50e_coco.py",
    "mmdet/nas_fpn": "retinanet_r50_nasfpn_crop640-50e_coco.py",
    "mmdet/glip": "glip_atss_swin-t_a_fpn_dyhead_16xb2_ms-2x_funtune_coco.py",
    "mmdet/libra_rcnn": "libra-faster-rcnn_r50_fpn_1x_coco.py",
    "mmdet/hrnet": "faster-rcnn_hrnetv2p-w18-1x_coco.py",
    "mmdet/sort": "sort_faster-rcnn_r50_fpn_8xb2-4e_mot17halftrain_test-mot17halfval.py",
    "mmdet/timm_example": "retinanet_timm-tv-resnet50_fpn_1x_coco.py",
    "mmseg/deeplabv3plus": "deeplabv3plus_r50-d8_4xb2-40k_cityscapes-512x1024.py",
    "mmseg/hrnet": "fcn_hr18s_4xb2-40k_cityscapes-512x1024.py",
    "mmseg/upernet": "upernet_r50_4xb2-40k_cityscapes-512x1024.py",
    "mmseg/swin": "swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py",
}


@dataclass(frozen=True)
class Method:
    """A folder of configs.

    Attributes:
        toolbox: 'mmdet' or 'mmseg'.
        name: The folder.
        config: The config that stands for it, relative to the folder; '' if none can be read.
        backbone: Type of that config's backbone.
        pyramid: Whether the backbone is one that the goal counts: a pyramid of four stages.
    """

    toolbox: str
    name: str
    config: str
    backbone: str
    pyramid: bool

    @property
    def key(self) -> str:
        return f"{self.toolbox}/{self.name}"

    @property
    def upstream_name(self) -> str:
        return f"{self.toolbox}::{self.name}/{self.config}"


def is_pyramid(backbone: str) -> bool:
    """Whether a type of backbone is one that the goal counts."""
    return _PYRAMID.search(backbone) is not None


def zoo_root(toolbox: str) -> Path:
    """Folder of a toolbox' installed configs."""
    spec = importlib.util.find_spec(toolbox)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"{toolbox} is not installed, so its configs cannot be looked at")
    return Path(next(iter(spec.submodule_search_locations)), ".mim", "configs")


def iter_methods(toolbox: str) -> Iterator[Method]:
    """Every folder of configs, by name."""
    for folder in sorted(zoo_root(toolbox).iterdir()):
        if folder.is_dir() and not folder.name.startswith("_"):
            yield find_method(toolbox, folder.name)


def find_method(toolbox: str, name: str) -> Method:
    """The config that stands for a folder: one with a pyramid, if there is any."""
    folder = zoo_root(toolbox) / name
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*.py")]
    files.sort(key=lambda file: (_FIRST.search(file) is None, file.count("/"), len(file), file))
    chosen = _CHOSEN.get(f"{toolbox}/{name}")
    if chosen in files:
        files = [chosen]
    other = None
    for file in files:
        kind = _backbone_type(folder / file)
        if kind and is_pyramid(kind):
            return Method(toolbox, name, file, kind, True)
        if kind and other is None:
            other = Method(toolbox, name, file, kind, kind == "mmpretrain.TIMMBackbone")
    return other or Method(toolbox, name, "", "", False)


def _backbone_type(path: Path) -> str | None:
    try:
        cfg = Config.fromfile(str(path))
        owner = find_owner(cfg)
    except Exception:  # bases of another folder, configs without a model, files that do not load
        return None
    value = cfg
    for key in (*owner, "backbone", "type"):
        value = value[key]
    return str(value)
