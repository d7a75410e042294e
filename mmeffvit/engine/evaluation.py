"""Evaluating a checkpoint: weights that are really those of the model, pictures, predictions."""

import os
from collections import OrderedDict
from pathlib import Path

from mmengine.config import Config
from torch import nn

from mmeffvit.checkpoint import CheckpointError, read_checkpoint
from mmeffvit.configs import full_type, type_name
from mmeffvit.engine.errors import LaunchError
from mmeffvit.engine.weights import fit_weights, unwrap

# hook -> ours in its place, its option for the folder, and what makes it draw every image
_DRAWING = {
    "DetVisualizationHook": ("DetectionPicturesHook", "test_out_dir", {"draw": True}),
    "VisualizationHook": ("ClassificationPicturesHook", "out_dir", {"enable": True, "interval": 1}),
}


def check_weights(model: nn.Module, path: str) -> int:
    """Load a checkpoint and make sure that every parameter of the model was in it.

    mmengine's Runner loads what fits and goes on, also when nothing fits: the evaluation then
    measures random weights. Buffers may be missing; renames that the model's own modules know are
    followed.

    Args:
        model: Its parameters are set.
        path: A local .pth or .safetensors file, read without running any code in it.

    Returns:
        The number of parameters.

    Raises:
        CheckpointError: The file is missing, damaged, or lacks parameters of the model.
    """
    if not Path(path).is_file():
        raise CheckpointError(
            f"There is no checkpoint {path} (looked for at {Path(path).resolve()})."
        )
    checkpoint = read_checkpoint(path)
    fit = fit_weights(model, checkpoint)
    model = unwrap(model)
    misfits = fit.shapes.keys() - fit.fitting
    weights = OrderedDict((k, v) for k, v in fit.weights.items() if k not in misfits)
    weights._metadata = getattr(fit.weights, "_metadata", None)
    absent = set(model.load_state_dict(weights, strict=False).missing_keys)
    parameters = [key for key, _ in model.named_parameters()]
    lost = [key for key in parameters if key in absent]
    if lost:
        reasons = "; ".join(map(fit.why_not, lost[:3]))
        raise CheckpointError(
            f"{path} has {len(parameters) - len(lost)} of the {len(parameters)} parameters of this "
            f"{type(model).__name__}: {reasons}{' ...' if len(lost) > 3 else '.'} It "
            "seems to belong to another config; official backbone weights are converted by "
            "tools/convert_checkpoint.py and are a starting point for training, not for a test."
        )
    return len(parameters)


def draw_predictions(cfg: Config, show_dir: str) -> None:
    """Write a picture per test image into a folder.

    The hooks of mmdet and mmpretrain, one of which the config must have, give way to ours that
    derive from them: these draw any image, and end no test. mmseg's names no folder, so segmentors
    get :class:`mmeffvit.visualization.hooks.SegmentationPicturesHook` beside it.

    Raises:
        LaunchError: The config has no such hook.
    """
    # mmdet's joins a relative path to itself once more at every iteration
    out_dir = os.path.abspath(show_dir)
    hook = (cfg.get("default_hooks") or {}).get("visualization") or {}
    kind = type_name(hook)
    if kind == "SegVisualizationHook":
        pictures = {"type": "mmeffvit.SegmentationPicturesHook", "out_dir": out_dir}
        cfg.custom_hooks = [*(cfg.get("custom_hooks") or []), pictures]
        return
    if cfg.get("default_scope") == "mmeffvit":
        raise LaunchError(
            "--show-dir draws images; a test of point clouds leaves predictions.png in the work "
            "directory by custom_hooks=[dict(type='mmeffvit.PointDetFiguresHook')], or "
            "PointSegFiguresHook for segmentation."
        )
    if kind not in _DRAWING:
        raise LaunchError(
            "--show-dir draws with the toolbox's hook, so the config needs default_hooks=dict("
            "visualization=dict(type=...)) with one of SegVisualizationHook, "
            f"{', '.join(_DRAWING)}; found {full_type(hook) or None!r}."
        )
    ours, folder, options = _DRAWING[kind]
    hook.update(options, type=f"mmeffvit.{ours}", **{folder: out_dir})


def dump_predictions(cfg: Config, path: str) -> None:
    """Write all predictions of a test run, beside evaluating them.

    Args:
        cfg: Changed in place.
        path: A pickle file (``.pkl``); of a config of mmseg a folder, which gets one label map per
            image (:class:`mmeffvit.engine.label_maps.LabelMapsHook`).

    Raises:
        LaunchError: The path does not suit the config.
    """
    evaluator = cfg.get("test_evaluator") or []
    evaluators = list(evaluator) if isinstance(evaluator, (list, tuple)) else [evaluator]
    is_pickle = path.endswith((".pkl", ".pickle"))
    if cfg.get("default_scope") == "mmseg":
        if is_pickle:
            raise LaunchError(
                "--out names a folder for label maps when a segmentor is tested (its scores of all "
                f"classes would fill the memory); got --out {path}."
            )
        # metrics that write and measure nothing have nothing left to do
        cfg.test_evaluator = [e for e in evaluators if not e.get("format_only")]
        maps = {"type": "mmeffvit.LabelMapsHook", "out_dir": os.path.abspath(path)}
        cfg.custom_hooks = [*(cfg.get("custom_hooks") or []), maps]
        return
    if not is_pickle:
        raise LaunchError(f"--out writes a pickle file, so its name ends with .pkl; got {path!r}.")
    name = "DumpDetResults" if cfg.get("default_scope") == "mmdet" else "DumpResults"
    cfg.test_evaluator = [*evaluators, {"type": name, "out_file_path": path}]
