"""One method: swap, build, one training loss with its gradients, one prediction."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import MessageHub
from mmengine.registry import MODELS, DefaultScope

from maintenance.swap_zoo.batches import TEXT, Batches
from maintenance.swap_zoo.language import with_bert, write_bert
from maintenance.swap_zoo.methods import Method
from mmeffvit.configs import convert, lookup, plain, walk
from mmeffvit.engine.launch import load_config
from mmeffvit.swap import swap_backbone
from mmeffvit.swap.locate import find_owner

#: a network of one block per stage, with the widths of the tiny variants
TINY = {
    "embed_dims": (64, 128, 256, 512),
    "depths": (1, 1, 1, 1),
    "num_heads": (1, 2, 4, 8),
    "mlp_ratios": (1, 1, 1, 1),
    "attention": ("l", "l", "v", "v"),
    "layer_scale": (1, 1, 1, 1),
}
#: sides of images: some necks halve maps more often than 64 pixels allow, and QueryInst's random
#: boxes have to lie in the image
_SIDES = {
    **{"mmdet/fpg": 128, "mmdet/nas_fpn": 128, "mmdet/queryinst": 128, "mmdet/glip": 128},
    # the last layers of SSD, and the pooling of LR-ASPP, are made for the size of their images
    **{"mmdet/ssd": 300, "mmseg/mobilenet_v3": 400},
    # SparK masks a grid of the size that its config names
    "mmpretrain/spark": 224,
}
_TRACKERS = ("SORT", "DeepSORT", "ByteTrack", "OCSORT", "StrongSORT")


def try_method(method: Method, backbone: str = "ravlt", swap: bool = True) -> dict[str, Any]:
    """Run a method's config for one step.

    Args:
        method: The method.
        backbone: Name for `swap_backbone`.
        swap: False runs the upstream config as it is.

    Returns:
        ``loss``, ``predicted`` (the type of a prediction), ``without_gradient`` (how many
        parameters of the backbone the loss does not reach) and ``seconds``.

    Raises:
        Exception: Whatever goes wrong.
    """
    start = time.perf_counter()
    torch.manual_seed(0)
    cfg = load_config(method.upstream_name)
    with running(cfg, method):
        if swap:
            cfg = reload(swap_backbone(cfg, backbone, arch=TINY))
        owner = find_owner(cfg)
        model = build_small(cfg)
        batches = Batches(cfg, side_of(method))
        loss, log = _loss(model, batches)
        if not torch.isfinite(loss):
            parts = [name for name, value in log.items() if not math.isfinite(value)]
            raise FloatingPointError(f"not finite: {', '.join(parts)}")
        loss.backward()
        network = model
        for key in (*owner[1:], "backbone"):
            network = _child(network, key)
        without = [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]
        prediction = _predict(model, batches)
    return {
        "loss": round(loss.item(), 4),
        "predicted": type(prediction).__name__,
        "without_gradient": len(without),
        "seconds": round(time.perf_counter() - start, 1),
    }


@contextmanager
def running(cfg: Config, method: Method) -> Iterator[None]:
    """The state that a run of the config would have at its first step."""
    MessageHub.get_current_instance().update_info_dict({"iter": 0, "epoch": 0})
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope") or method.toolbox):
        yield


def side_of(method: Method) -> int:
    """Height and width of images for a method."""
    return _SIDES.get(method.key, 64)


def build_small(cfg: Config) -> Any:
    """The model of a config, without weights from elsewhere, with what small images allow."""
    model = convert(cfg.model, bare)
    make_cheaper(model)
    cfg.model = Config(model)._cfg_dict
    if cfg.model.get("num_queries"):
        cfg.model.num_queries = min(cfg.model.num_queries, _QUERIES)
        if "max_per_img" in (cfg.model.get("test_cfg") or {}):
            cfg.model.test_cfg.max_per_img = min(cfg.model.test_cfg.max_per_img, _QUERIES)
    model = _build(cfg)
    if hasattr(model, "set_epoch"):  # by a hook, in a run
        model.set_epoch(0)
    return model


def _build(cfg: Config) -> Any:
    model = build(cfg.model)
    model.init_weights()
    if cfg.model.type == "QueryInst":
        _keep_boxes(model)
    return model


def build(model: Mapping[str, Any]) -> Any:
    """A model of a config, with a small BERT where it wants one that is downloaded."""
    if "language_model" not in model:
        return MODELS.build(ConfigDict(model))
    with tempfile.TemporaryDirectory() as folder:
        write_bert(Path(folder), TEXT)
        return MODELS.build(ConfigDict(with_bert(plain(model), Path(folder))))


def _keep_boxes(model: Any) -> None:
    """Leave boxes where they start, at the whole image: random steps lead out of it.

    mmdet cannot paste the masks of such boxes on a CPU.
    """
    for head in model.roi_head.bbox_head:
        torch.nn.init.zeros_(head.fc_reg.weight)


def reload(cfg: Config) -> Config:
    """Through a file in an empty folder, as proof that the config stands alone."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.py")
        # what cfg.dump writes, less its formatting, which takes longer than a training step
        lines = [f"{key} = {value!r}\n" for key, value in plain(cfg).items()]
        path.write_text("".join(lines), encoding="utf-8")
        return Config.fromfile(str(path))


def _child(module: Any, key: str | int) -> Any:
    if isinstance(key, int):
        return module[key]
    if key == "detector" and hasattr(module, "student"):  # semi-supervised: two of one config
        return module.student
    return getattr(module, key)


def bare(value: Any) -> Any:
    """A model's config without weights on disk or on the net, for small images and one process."""
    if not isinstance(value, dict):
        return value
    if value.get("type") == "Pretrained":
        return None
    if value.get("type") in ("SyncBN", "MMSyncBN"):
        value = {**value, "type": "BN"}
    drop = ("pretrained", "teacher_ckpt", "batch_augments")  # the last pad to full size
    return {key: None if key in drop else item for key, item in value.items()}


#: 64 pixels have fewer cells than DINO has queries
_QUERIES = 50
#: settings of training and testing that cost time and are no part of a network
_FEWER = {"num_points": 256, "num": 32, "nms_pre": 100, "max_per_img": 100}


def make_cheaper(model: dict[str, Any]) -> None:
    for place, value in walk(model):
        inside = not {"train_cfg", "test_cfg"}.isdisjoint(place[:-1])
        fewer = _FEWER if inside else {"num_cp": -1}  # re-computing saves memory, of GPUs
        if type(value) is int and place[-1] in fewer:
            lookup(model, place[:-1])[place[-1]] = min(value, fewer[place[-1]])


def _loss(model: Any, batches: Batches) -> tuple[torch.Tensor, Mapping[str, Any]]:
    preprocessor = model.data_preprocessor
    if batches.kind in _TRACKERS:  # what is trained is the detector, on single images
        settings = batches.cfg.model.data_preprocessor
        kept = {k: v for k, v in settings.items() if k in ("mean", "std", "bgr_to_rgb")}
        preprocessor = MODELS.build({"type": "DetDataPreprocessor", "pad_size_divisor": 32, **kept})
        model = model.detector
    model.train()
    data = preprocessor(batches.training(), training=True)
    return model.parse_losses(model(**data, mode="loss"))


@torch.no_grad()
def _predict(model: Any, batches: Batches) -> Any:
    model.eval()
    data = model.data_preprocessor(batches.testing(), training=False)
    if not hasattr(model, "predict"):  # learns features, without labels
        views = data["inputs"]
        return model(views[0] if isinstance(views, list) else views, mode="tensor")
    predictions = model(**data, mode="predict")
    if len(predictions) == 0:
        raise ValueError("the model returned no prediction")
    return predictions[0]
