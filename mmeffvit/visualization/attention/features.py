"""Feature maps as colours: the first three principal components of the channels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmeffvit.visualization.attention.maps import MapRow, TokenMap


def principal_colours(features: Tensor) -> Tensor:
    """Project the channels of a map to their three main directions, as red, green and blue.

    Signs are fixed by the largest entry of each direction, and each colour is stretched from the
    1st to the 99th percentile, so that outliers do not darken the rest.

    Args:
        features: (C, H, W), three channels or more.

    Returns:
        (H, W, 3) in [0, 1].
    """
    x = features.flatten(1).T.double()
    x = x - x.mean(0)
    # eigenvectors in ascending order of their share of the variance
    directions = torch.linalg.eigh(x.T @ x).eigenvectors[:, -3:].flip(1)
    strongest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    colours = x @ (directions * strongest.sign())
    low, high = torch.quantile(colours, torch.tensor([0.01, 0.99]).to(colours), dim=0)
    colours = ((colours - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
    return colours.float().unflatten(0, features.shape[1:])


def feature_row(
    backbone: nn.Module, image: Tensor, stages: Sequence[int] | None = None
) -> tuple[MapRow, list[int]]:
    """The maps that a backbone returns, in colours.

    Args:
        backbone: Any network that returns a tuple of (B, C, H, W) maps.
        image: (1, 3, H, W), normalised.
        stages: Some of its ``out_indices``; None for all.

    Returns:
        The row, and the stride of each of its maps.

    Raises:
        ValueError: The backbone does not return the map of a stage.
    """
    was_training = backbone.training
    backbone.eval()
    try:
        with torch.no_grad():
            maps = backbone(image)
    finally:
        backbone.train(was_training)
    indices = list(getattr(backbone, "out_indices", range(len(maps))))
    for stage in stages or ():
        if stage not in indices:
            raise ValueError(
                f"there is no map of stage {stage}: {type(backbone).__name__} returns those of "
                f"the stages {', '.join(map(str, indices))}"
            )
    row = MapRow(
        "Three main directions of the channels as red, green and blue, for each map by itself.",
        [
            TokenMap(
                principal_colours(features[0]),
                f"stage {stage}: {' × '.join(map(str, features.shape[1:]))}",
            )
            for stage, features in zip(indices, maps)
            if stages is None or stage in stages
        ],
        legend=None,
    )
    return row, [round(image.shape[-1] / m.values.shape[1]) for m in row.maps]
