"""The rough edges of the OpenMMLab stack, each smoothed in one small module."""

__all__ = ["setup"]


def setup() -> None:
    """Repair what the installed stack lacks; call it before anything imports mmcv."""
    from mmeffvit.compat.mmcv_ops import module

    module.install()
