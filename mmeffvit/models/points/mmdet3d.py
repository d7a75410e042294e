"""Point networks inside of mmdet3d, for those who have it.

``type='mmeffvit.ConDaFormer'`` resolves in mmdet3d's configs as it is. What is here also lets the
bare names resolve there.
"""

from __future__ import annotations

from importlib import import_module

from mmeffvit.models.points.backbones import ConDaFormer, FlatFormer

#: mmdet3d has classes of its own under the names of the other modules
_NETWORKS = (ConDaFormer, FlatFormer)


def register_in_mmdet3d() -> list[str]:
    """Register the point networks in mmdet3d's registry of models, under their own names.

    Returns:
        The names.

    Raises:
        RuntimeError: mmdet3d is not installed, or refuses the versions of mmcv, mmengine or mmdet.
    """
    try:
        registry = import_module("mmdet3d.registry").MODELS
    except (ImportError, AssertionError) as error:
        # its package checks versions by assertions
        raise RuntimeError(
            f"mmdet3d cannot be imported ({error or type(error).__name__}); without it, "
            "mmeffvit.PointSegmentor and mmeffvit.PointDetector train these networks"
        ) from error
    for network in _NETWORKS:
        registry.register_module(module=network, force=True)
    return [network.__name__ for network in _NETWORKS]
