"""SSD predicts: `BaseDenseHead` of mmdet 3 asks every head for its loss, and SSD's has none."""

from types import ModuleType

from mmeffvit.compat.imports import when_imported


def repair_head() -> None:
    """Let SSD's head say that it has no loss of classes, now or once it is imported."""
    when_imported("mmdet.models.dense_heads.ssd_head", _say_no_loss)


def _say_no_loss(module: ModuleType) -> None:
    if not hasattr(module.SSDHead, "loss_cls"):
        module.SSDHead.loss_cls = None
