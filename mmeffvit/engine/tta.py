"""Test-time augmentation: the toolboxes' models that merge what is predicted on several views."""

import copy
from typing import Any

from mmengine.config import Config, ConfigDict

from mmeffvit.configs import type_name, walk
from mmeffvit.engine.data import iter_datasets
from mmeffvit.engine.errors import LaunchError

#: scope -> the model that merges, where the config names none
_MODELS = {
    "mmdet": {
        "type": "DetTTAModel",  # which mmdet registers as mmengine's
        "tta_cfg": {"nms": {"type": "nms", "iou_threshold": 0.5}, "max_per_img": 100},
    },
    "mmseg": {"type": "mmseg.SegTTAModel"},
    "mmpretrain": {"type": "mmpretrain.AverageClsScoreTTA"},
}


def enable_tta(cfg: Config) -> None:
    """Test on several views of each image, and merge what is predicted on them.

    The config's ``tta_model`` and ``tta_pipeline`` say how. Without them the toolbox's own model
    merges, and the views are the image as it is tested and its mirror image.

    Args:
        cfg: Changed in place.

    Raises:
        LaunchError: The toolbox merges no such predictions, or no views are known.
    """
    scope = cfg.get("default_scope")
    merging = copy.deepcopy(cfg.get("tta_model") or _MODELS.get(scope))
    if merging is None:
        raise LaunchError(
            "--tta needs tta_model=dict(type=...), a model that merges predictions, and "
            f"tta_pipeline=[...] in the config; there are defaults for {', '.join(_MODELS)}, and "
            f"this config has default_scope={scope!r}."
        )
    if type_name(merging) == "DetTTAModel" and _predicts_masks(cfg.model):
        if not _predicts_boxes(cfg.model):
            raise LaunchError(
                "--tta: objects of several views are merged by their boxes, and this model "
                f"({type_name(cfg.model)}) predicts masks without any; test without --tta, or name "
                "a model that merges them in tta_model."
            )
        merging["type"] = "mmeffvit.MaskTTAModel"
    for dataset in iter_datasets(cfg.test_dataloader.dataset):
        dataset["pipeline"] = copy.deepcopy(cfg.get("tta_pipeline")) or _mirrored(dataset)
    cfg.model = ConfigDict({**merging, "module": cfg.model})


def _predicts_masks(model: Any) -> bool:
    return any(
        place[-1:] in (("mask_head",), ("loss_mask",)) and inner for place, inner in walk(model)
    )


def _predicts_boxes(model: Any) -> bool:
    """Not SOLO, whose boxes are zeros, nor a model of segments without boxes."""
    panoptic = (model.get("test_cfg") or {}).get("panoptic_on", False)
    return not panoptic and any(model.get(h) for h in ("bbox_head", "roi_head", "panoptic_head"))


def _mirrored(dataset: Any) -> list[dict]:
    """The pipeline, whose last step packs the image and its mirror image."""
    *steps, pack = copy.deepcopy(list(dataset.get("pipeline") or [None]))
    if not type_name(pack).startswith("Pack"):
        raise LaunchError(
            "--tta: the pipeline of the test data ends with no step that packs (PackDetInputs, "
            f"PackSegInputs, PackInputs), but with {type_name(pack) or None!r}; write the views "
            "down in tta_pipeline=[..., dict(type='TestTimeAug', transforms=[...])]."
        )
    if "meta_keys" in pack:  # which view it is has to be known afterwards
        more = ("flip", "flip_direction")
        pack["meta_keys"] = (*pack["meta_keys"], *(k for k in more if k not in pack["meta_keys"]))
    # annotations are of the image as it is, whichever way it is turned
    annotations = [step for step in steps if "Annotations" in type_name(step)]
    steps = [step for step in steps if "Annotations" not in type_name(step)]
    flips = [{"type": "RandomFlip", "prob": prob} for prob in (0.0, 1.0)]
    views = [flips, *([step] for step in annotations), [pack]]
    return [*steps, {"type": "TestTimeAug", "transforms": views}]
