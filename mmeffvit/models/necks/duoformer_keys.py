"""Keys of DuoFormer's weights, and ours in a model whose second neck is an FPN."""

from __future__ import annotations

import torch
from torch import Tensor

from mmeffvit.models.official import KeyRule, as_conv

PREFIX = "neck.0."


def rows_first(tokens: Tensor) -> Tensor:
    """(..., T, C): the authors store the four tokens of a region of side 2 columns first."""
    order = torch.arange(tokens.shape[-2])
    order[[3, 4]] = order[[4, 3]]
    return tokens.index_select(-2, order)


_THEIRS = r"(?:vision_transformer\.)?"
RULES = (
    KeyRule(
        rf"{_THEIRS}pos_embed_for_scale",
        f"{PREFIX}table",
        transform=lambda t: rows_first(t).flatten(0, -2),
    ),
    KeyRule(r"channel_token", f"{PREFIX}scale_token", transform=lambda t: t.flatten(0, -2)),
    KeyRule(r"projection\.proj_heads(\d)\.(\w+)", rf"{PREFIX}projections.\1.\2"),
    *(
        KeyRule(
            rf"{_THEIRS}scaleBlocks\.(\d+)\.{theirs}\.(\w+)",
            rf"{PREFIX}blocks.\1.{ours}.\3",
            transform=as_conv,
        )
        for theirs, ours in (
            (r"(norm\d)", r"\2"),
            (r"attn\.(\w+)", r"\2"),
            (r"mlp\.(\w+)", r"ffn.\2"),
        )
    ),
    KeyRule(rf"{_THEIRS}fc_norm\.\w+", None, reason="a norm whose result the authors do not use"),
    KeyRule(
        rf"{_THEIRS}(?:cls_token|pos_embed|blocks\..+|head\.\w+)",
        None,
        reason="the classifier, which is no part of the neck",
    ),
    KeyRule(r"resnet_projector\.0\.(\w+)", r"backbone.conv1.\1"),
    KeyRule(r"resnet_projector\.1\.(\w+)", r"backbone.bn1.\1"),
    KeyRule(r"resnet_projector\.(\d)\.(.+)", r"backbone.layer\1.\2", shift=-3),
)
