"""One method on a made-up data set of three classes: a training step, predictions, evaluation."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner

from maintenance import shapes
from maintenance.swap_zoo.methods import Method
from maintenance.swap_zoo.trial import TINY, build_small, reload, running, side_of
from mmeffvit.configs import convert, plain, walk
from mmeffvit.engine.launch import load_config
from mmeffvit.swap import set_dataset, swap_backbone

#: steps of pipelines whose size of an image is one of these
_SIZES = ("scale", "scales", "img_scale", "crop_size", "size", "pad_size", "img_size")


def write_data(folder: Path, toolbox: str) -> Path:
    """Three classes whose ids are 3, 7 and 20; of segmentation as values of label maps."""
    if toolbox == "mmseg":
        shapes.write_label_maps(folder, num=(4, 2), values=(255, *shapes.IDS), names=False)
        (folder / "classes.txt").write_text("\n".join(shapes.CLASSES))
        return folder
    return shapes.write_coco(folder, num=(8, 2))


def try_dataset(method: Method, swap: bool = True) -> dict[str, Any]:
    """Swap the backbone, set the data set, train a step, predict and evaluate.

    Args:
        method: The method.
        swap: False keeps the backbone.

    Returns:
        ``loss``, ``metrics`` (how many) and ``seconds``.

    Raises:
        Exception: Whatever goes wrong.
    """
    start = time.perf_counter()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        data = write_data(Path(folder, "data"), method.toolbox)
        cfg = load_config(method.upstream_name)
        if swap:
            cfg = swap_backbone(cfg, "ravlt", arch=TINY)
        cfg = reload(set_dataset(cfg, data))
        _make_small(cfg, side_of(method))
        with running(cfg, method):
            model = build_small(cfg)
            loss = _train(model, cfg)
            metrics = _evaluate(model, cfg)
    return {
        "loss": round(loss, 4),
        "metrics": len(metrics),
        "seconds": round(time.perf_counter() - start, 1),
    }


def build_pipelines(method: Method) -> dict[str, Any]:
    """Build the steps of the upstream pipelines, which have nothing to do with a data set.

    Args:
        method: The method.

    Raises:
        Exception: Whatever goes wrong.
    """
    cfg = load_config(method.upstream_name)
    with running(cfg, method):
        for place, value in walk(plain(cfg)):
            if place[-1:] == ("pipeline",):
                Compose(value)
    return {}


def _make_small(cfg: Config, side: int) -> None:
    """Images of one small size, and loaders in this process."""

    def shrink(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: _small(v, side) if k in _SIZES else v for k, v in value.items()}
        return value

    for split in ("train", "val", "test"):
        loader = convert(plain(cfg[f"{split}_dataloader"]), shrink)
        loader.update(num_workers=0, persistent_workers=False)
        loader.pop("prefetch_factor", None)
        sampler = loader.get("sampler") or {}
        batch = 2 if split == "train" else 1
        # of several sources, such as labelled and unlabelled images, one each at least
        loader["batch_size"] = sampler.get("batch_size", batch)
        cfg[f"{split}_dataloader"] = loader
    cfg.model = convert(plain(cfg.model), shrink)


def _small(value: Any, side: int) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_small(item, side) for item in value)
    return min(value, side) if type(value) is int else value


def _train(model: torch.nn.Module, cfg: Config) -> float:
    model.train()
    batch = next(iter(Runner.build_dataloader(cfg.train_dataloader)))
    loss, log = model.parse_losses(model(**model.data_preprocessor(batch, True), mode="loss"))
    if not math.isfinite(loss.item()):
        raise FloatingPointError(f"the loss is not finite: {log}")
    loss.backward()
    return loss.item()


@torch.no_grad()
def _evaluate(model: torch.nn.Module, cfg: Config) -> dict[str, float]:
    model.eval()
    loader = Runner.build_dataloader(cfg.val_dataloader)
    evaluator = Evaluator(cfg.val_evaluator)
    evaluator.dataset_meta = loader.dataset.metainfo
    batches: Iterable[Any] = loader
    for batch in batches:
        evaluator.process(model.val_step(batch), batch)
    return evaluator.evaluate(len(loader.dataset))
