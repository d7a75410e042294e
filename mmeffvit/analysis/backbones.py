"""Backbones by a short text, for the tools' command lines."""

import ast
from typing import Any

from torch import nn


def parse_spec(spec: str) -> tuple[str, dict[str, Any]]:
    """Split ``'secvit-tiny:tokens_per_cluster=98,out_indices=(3,)'`` into a name and arguments.

    Raises:
        ValueError: If what follows the colon is not a list of ``key=literal``.
    """
    name, _, options = spec.partition(":")
    try:
        call = ast.parse(f"dict({options})", mode="eval").body
        if call.args or any(keyword.arg is None for keyword in call.keywords):
            raise ValueError("positional argument")
        return name, {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise ValueError(
            f"'{spec}' is not NAME or NAME:KEY=VALUE,KEY=VALUE with Python literals as values, "
            "such as secvit-tiny:tokens_per_cluster=98"
        ) from error


def is_registered_type(spec: str) -> bool:
    """Whether a spec names a class of a toolbox (``mmdet.SwinTransformer``) and not one of ours."""
    return "." in parse_spec(spec)[0]


def build_backbone(spec: str, **options: Any) -> nn.Module:
    """Build a backbone from a spec.

    Args:
        spec: A name of `mmeffvit.list_backbones`, or ``scope.Class`` of any toolbox's registry,
            with arguments after a colon; see `parse_spec`.
        **options: More arguments of the network; those in the spec win.

    Raises:
        ValueError: If no backbone has this name, or no registry has this class.
    """
    name, arguments = parse_spec(spec)
    arguments = {**options, **arguments}
    if not is_registered_type(spec):
        from mmeffvit import create_backbone

        return create_backbone(name, **arguments)
    from mmeffvit import compat

    compat.setup()
    from mmengine.registry import MODELS

    if MODELS.get(name) is None:
        raise ValueError(
            f"no registry has '{name}'; give SCOPE.CLASS as in the toolbox's configs, such as "
            "mmdet.SwinTransformer or mmpretrain.ConvNeXt"
        )
    return MODELS.build({"type": name, **arguments})


def build_detector(config: str) -> nn.Module:
    """Build the model of an mmdet config with random weights.

    Args:
        config: A file, or ``mmdet::...`` for one of mmdet's own.

    Raises:
        LaunchError: If there is no such config.
    """
    from mmeffvit import compat

    compat.setup()
    from mmengine.registry import MODELS, DefaultScope

    from mmeffvit.engine.launch import load_config

    cfg = load_config(config)
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope") or "mmdet"):
        return MODELS.build(cfg.model)
