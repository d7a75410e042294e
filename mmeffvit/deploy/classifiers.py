"""Classifiers: class scores (B, K)."""

from __future__ import annotations

from torch import Tensor, nn

from mmeffvit.deploy.errors import ExportError
from mmeffvit.models.classifier import Classifier


class ClassScores(nn.Module):
    """Softmax, or sigmoid where classes do not exclude one another, of a classifier's logits.

    Args:
        model: Ours, or ``ImageClassifier`` of mmpretrain.

    Raises:
        ExportError: The head predicts something else.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = model.backbone, model.head
        self.neck = getattr(model, "neck", None)
        self.several = not isinstance(model, Classifier) and _takes_several(self.head)

    def forward(self, x: Tensor, size: Tensor) -> dict[str, Tensor]:
        """Normalised images (B, C, H, W) to class scores."""
        x = self.backbone(x)
        if self.neck is not None:
            x = self.neck(x)
        logits = self.head(x)
        return {"scores": logits.sigmoid() if self.several else logits.softmax(1)}


def _takes_several(head: nn.Module) -> bool:
    """Whether a head of mmpretrain gives several classes to an image."""
    from mmpretrain.models.heads import ClsHead, MultiLabelClsHead

    for kind, several in ((MultiLabelClsHead, True), (ClsHead, False)):
        if isinstance(head, kind) and all(
            getattr(type(head), name) is getattr(kind, name)
            for name in ("predict", "_get_predictions")
        ):
            return several
    raise ExportError(
        f"the head {type(head).__name__} predicts in its own way; heads are served that do as "
        "mmpretrain's ClsHead and MultiLabelClsHead"
    )
