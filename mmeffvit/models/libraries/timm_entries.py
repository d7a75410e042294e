"""Our backbones among the models of timm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from mmeffvit.models import zoo
from mmeffvit.models.backbones import BaseBackbone
from mmeffvit.models.classifier import create_classifier
from mmeffvit.models.libraries.base import IMAGENET_MEAN, IMAGENET_STD, require


class TimmFeatures(nn.Module):
    """What ``timm.create_model(..., features_only=True)`` gives: a list of maps.

    Args:
        backbone: One of ours.

    Attributes:
        feature_info: Of timm, with ``channels()`` and ``reduction()`` of the maps.
    """

    def __init__(self, backbone: BaseBackbone):
        super().__init__()
        from timm.models import FeatureInfo

        levels = zip(backbone.stage_channels, backbone.stage_strides, strict=True)
        info = [
            {"num_chs": channels, "reduction": stride, "module": f"stages.{i}"}
            for i, (channels, stride) in enumerate(levels)
        ]
        self.feature_info = FeatureInfo(info, backbone.out_indices)
        self.backbone = backbone

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps (B, C_i, H_i, W_i) of images (B, C, H, W)."""
        return list(self.backbone(x))


def register_in_timm() -> tuple[str, ...]:
    """Make our backbones known to timm, 'ravlt-tiny' as ``ravlt_tiny``.

    >>> register_in_timm()
    >>> timm.create_model('ravlt_tiny', features_only=True, out_indices=(1, 2, 3))

    Without ``features_only`` the model is the published classifier, where there is one.

    Returns:
        The names. One that timm has for a model of its own is left out.
    """
    require("timm", "backbones")
    import timm
    from timm.models import register_model

    names = []
    for name in zoo.list_backbones():
        entry = _entry(name)
        if timm.is_model(entry.__name__) and not hasattr(
            timm.model_entrypoint(entry.__name__), "mmeffvit_name"
        ):
            continue
        if not timm.is_model(entry.__name__):
            register_model(entry)
        names.append(entry.__name__)
    return tuple(names)


def _entry(name: str) -> Any:
    def create(
        pretrained: bool = False,
        features_only: bool = False,
        out_indices: Sequence[int] | None = None,
        num_classes: int = 1000,
        in_chans: int = 3,
        pretrained_cfg: Any = None,
        pretrained_cfg_overlay: Any = None,
        cache_dir: Any = None,
        **options: Any,
    ) -> nn.Module:
        if pretrained:
            raise ValueError(
                f"timm loads no weights of {name}: give checkpoint_path=FILE, or use "
                "mmeffvit.create_backbone, whose weights= takes the names of "
                "mmeffvit.list_weights()"
            )
        options["in_channels"] = in_chans
        if features_only:
            network = zoo.create_backbone(name, out_indices=out_indices, **options)
            model: nn.Module = TimmFeatures(network)
        else:
            model = create_classifier(name, num_classes, **options)
            model.num_classes = num_classes
        model.pretrained_cfg = model.default_cfg = {
            "architecture": create.__name__,
            "input_size": (in_chans, 224, 224),
            "mean": tuple(value / 255 for value in IMAGENET_MEAN),
            "std": tuple(value / 255 for value in IMAGENET_STD),
            "num_classes": 0 if features_only else num_classes,
        }
        return model

    create.__name__ = create.__qualname__ = name.replace("-", "_")
    create.mmeffvit_name = name
    return create
