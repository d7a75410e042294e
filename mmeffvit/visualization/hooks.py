"""Hooks that draw while a detector is trained or tested."""

from collections.abc import Sequence
from pathlib import Path

import mmcv
import numpy as np
from mmengine.dist import get_world_size, master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmeffvit.registry import HOOKS
from mmeffvit.visualization.contact_sheet import Example, Objects, draw_contact_sheet
from mmeffvit.visualization.curves import draw_curves, read_scalars
from mmeffvit.visualization.files import save_picture


@HOOKS.register_module()
class DetectionFiguresHook(Hook):
    """Keep two figures in the work directory: ``predictions.png`` and ``curves.png``.

    Both are drawn anew after each validation, so they show the state of the last one, also when
    the run is stopped early or resumed; testing draws ``predictions.png`` alone. Works for every
    mmdet detector whose test pipeline loads annotations, as mmdet's own do. In a distributed run
    the main process draws, from the images that it has evaluated itself.

    Args:
        num_images: Examples on the contact sheet, drawn by lot from the images that hold objects.
        score_thr: Predictions below are not drawn.
        panel: Side of the square each picture is fitted into, in pixels.
        columns: Examples beside one another on the sheet.
        title: Heading of both figures; the name of the experiment by default.
        seed: Decides the lot.
    """

    # after LoggerHook, whose scalars the curves need
    priority = "LOWEST"

    def __init__(
        self,
        num_images: int = 8,
        score_thr: float = 0.5,
        panel: int = 300,
        columns: int = 2,
        title: str | None = None,
        seed: int = 0,
    ) -> None:
        if num_images < 1:
            raise ValueError(f"num_images is {num_images}; it must be at least 1")
        self.num_images = num_images
        self.score_thr = score_thr
        self.panel = panel
        self.columns = columns
        self.title = title
        self.seed = seed
        self._samples: list = []
        self._wanted: set[str] = set()

    def before_val_epoch(self, runner: Runner) -> None:
        """Choose the images to draw."""
        self._choose(runner.val_dataloader)

    def before_test_epoch(self, runner: Runner) -> None:
        """Choose the images to draw."""
        self._choose(runner.test_dataloader)

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs: Sequence | None = None
    ) -> None:
        """Keep the predictions on the chosen images."""
        self._keep(outputs)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs: Sequence | None = None
    ) -> None:
        """Keep the predictions on the chosen images."""
        self._keep(outputs)

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Draw both figures."""
        self._draw_sheet(runner, runner.val_dataloader.dataset, metrics)
        self._draw_curves(runner)

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Draw the contact sheet."""
        self._draw_sheet(runner, runner.test_dataloader.dataset, metrics)

    def _choose(self, dataloader) -> None:
        self._samples, self._wanted = [], set()
        dataset = dataloader.dataset
        # every process evaluates its share of the images
        count = self.num_images * get_world_size()
        for index in np.random.default_rng(self.seed).permutation(len(dataset)):
            info = dataset.get_data_info(int(index))
            # images without any object have little to show
            if info.get("instances"):
                self._wanted.add(info["img_path"])
            if len(self._wanted) == count:
                break

    def _keep(self, outputs: Sequence | None) -> None:
        for sample in outputs or ():
            if sample.img_path in self._wanted and len(self._samples) < self.num_images:
                self._samples.append(sample.cpu())

    @master_only
    def _draw_sheet(self, runner: Runner, dataset, metrics: dict | None) -> None:
        examples = [to_example(sample) for sample in self._samples]
        self._samples = []
        if not examples:
            return
        sheet = draw_contact_sheet(
            examples,
            dataset.metainfo["classes"],
            title=self._title(runner),
            subtitle=_subtitle(runner, metrics),
            score_thr=self.score_thr,
            panel=self.panel,
            columns=self.columns,
        )
        path = Path(runner.work_dir, "predictions.png")
        save_picture(sheet, path)
        runner.logger.info(f"Predictions drawn: {path}")

    @master_only
    def _draw_curves(self, runner: Runner) -> None:
        train, val = read_scalars(runner.work_dir)
        if not train and not val:
            runner.logger.warning(
                f"No curves drawn: there is no vis_data/scalars.json under {runner.work_dir}. "
                "Add dict(type='LocalVisBackend') to vis_backends."
            )
            return
        path = Path(runner.work_dir, "curves.png")
        save_picture(draw_curves(train, val, title=self._title(runner)), path)
        runner.logger.info(f"Curves drawn: {path}")

    def _title(self, runner: Runner) -> str:
        if self.title is not None:
            return self.title
        # mmengine appends the time stamp to the name of the config
        return runner.experiment_name.removesuffix(f"_{runner.timestamp}")


def to_example(sample) -> Example:
    """An image with what is in it and what was found, from mmdet's `DetDataSample`.

    Args:
        sample: With ``img_path``, ``pred_instances``, and ``gt_instances`` and
            ``ignored_instances`` in the size of the original image.
    """
    image = mmcv.imread(sample.img_path, channel_order="rgb")
    return Example(
        image=image,
        truth=_truth(sample, image.shape[:2]),
        prediction=_objects(sample.pred_instances, image.shape[:2]),
        name=Path(sample.img_path).name,
    )


def _truth(sample, shape: tuple[int, int]) -> Objects:
    parts = [
        _objects(sample.get(name), shape)
        for name in ("gt_instances", "ignored_instances")
        if sample.get(name) is not None
    ]
    if not parts:
        return Objects(np.zeros((0, 4)), np.zeros(0, int))
    crowd = np.concatenate([np.full(len(part), index > 0) for index, part in enumerate(parts)])
    masks = [part.masks for part in parts]
    return Objects(
        boxes=np.concatenate([part.boxes for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        masks=None if any(m is None for m in masks) else np.concatenate(masks),
        crowd=crowd,
    )


def _objects(instances, shape: tuple[int, int]) -> Objects:
    """mmdet's `InstanceData` as arrays."""
    boxes = instances.bboxes
    boxes = getattr(boxes, "tensor", boxes)
    masks = instances.get("masks")
    if masks is not None:
        masks = masks.to_ndarray() if hasattr(masks, "to_ndarray") else np.asarray(masks)
        masks = masks.astype(bool).reshape(-1, *shape)
    scores = instances.get("scores")
    return Objects(
        boxes=np.asarray(boxes, float).reshape(-1, 4),
        labels=np.asarray(instances.labels, int),
        masks=masks,
        scores=None if scores is None else np.asarray(scores, float),
    )


def _subtitle(runner: Runner, metrics: dict | None) -> str:
    scores = {key.rpartition("/")[2]: value for key, value in (metrics or {}).items()}
    parts = []
    if isinstance(getattr(runner, "_train_loop", None), dict) or runner._train_loop is None:
        parts.append("test images")
    else:
        parts.append(f"validation after {runner.iter} training iterations")
    for key, name in (("bbox_mAP", "box AP"), ("segm_mAP", "mask AP")):
        if key in scores:
            parts.append(f"{name} {scores[key]:.3f}")
    return "  ·  ".join(parts)
