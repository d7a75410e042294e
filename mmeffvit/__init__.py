"""mmeffvit: efficient vision transformers as backbones for the OpenMMLab toolboxes.

Importing this package needs torch only and has no side effect; the networks are imported when
:func:`create_backbone` or :func:`list_backbones` is first called.
"""

from mmeffvit.version import __version__

__all__ = [
    "__version__",
    "create_backbone",
    "create_classifier",
    "list_backbones",
    "list_weights",
    "plan_dataset",
    "register_in_timm",
    "register_in_transformers",
    "set_dataset",
    "set_tuning",
    "swap_backbone",
]


def list_backbones(pattern="*"):
    """Names of all backbones that match a shell pattern, sorted; see `mmeffvit.models.zoo`."""
    from mmeffvit.models import zoo

    return zoo.list_backbones(pattern)


def list_weights(pattern="*"):
    """Names of all published weights that match a shell pattern; see `mmeffvit.models.weights`."""
    from mmeffvit.models import weights

    return weights.list_weights(pattern)


def create_backbone(name, weights=None, **kwargs):
    """Build a backbone by its name, such as ``'secvit-tiny'``; see `mmeffvit.models.zoo`.

    `weights` are published ones, by tag (``'in1k'``) or name of `list_weights`, or a file under our
    keys; see `mmeffvit.checkpoint.start_from`. Without them nothing is fetched.
    """
    from mmeffvit.models import zoo

    return _started(zoo.create_backbone(name, **kwargs), weights, name)


def create_classifier(name, num_classes=1000, weights=None, **kwargs):
    """Build a published classifier by its name; see `mmeffvit.models.classifier`.

    `weights` are those of `create_backbone`; the last layer is new if the classes are others.
    """
    from mmeffvit.models import classifier

    return _started(classifier.create_classifier(name, num_classes, **kwargs), weights, name)


def _started(network, weights, name):
    if weights is not None:
        from mmeffvit.checkpoint import start_from

        start_from(network, weights, name)
    return network


def swap_backbone(cfg, backbone, **kwargs):
    """Put a backbone into a config of mmdet or mmseg; see `mmeffvit.swap.swap_backbone`."""
    from mmeffvit import swap

    return swap.swap_backbone(cfg, backbone, **kwargs)


def set_dataset(cfg, data, **kwargs):
    """Put a folder of your data into a config of a toolbox; see `mmeffvit.swap.set_dataset`."""
    from mmeffvit import swap

    return swap.set_dataset(cfg, data, **kwargs)


def plan_dataset(cfg, data, **kwargs):
    """Find out what `set_dataset` would do; see `mmeffvit.swap.plan_dataset`."""
    from mmeffvit import swap

    return swap.plan_dataset(cfg, data, **kwargs)


def set_tuning(cfg, **kwargs):
    """Train few parameters of a backbone, such as by LoRA; see `mmeffvit.swap.set_tuning`."""
    from mmeffvit import swap

    return swap.set_tuning(cfg, **kwargs)


def register_in_timm():
    """Make our backbones models of timm; see `mmeffvit.models.libraries.timm_entries`."""
    from mmeffvit.models.libraries import timm_entries

    return timm_entries.register_in_timm()


def register_in_transformers():
    """Make our backbones known to transformers; see `mmeffvit.models.libraries.auto_backbone`."""
    from mmeffvit.models.libraries.base import require

    require("transformers", "backbones")
    from mmeffvit.models.libraries import auto_backbone

    auto_backbone.register()
