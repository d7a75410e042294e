"""Token mixers of the registry, with options for what they need beside channels and heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmeffvit.layers import TokenMixer
from mmeffvit.registry import MODELS

#: mixer -> choices of arguments that small maps have a use for
SMALL_OPTIONS: dict[str, list[dict[str, Any]]] = {
    "CrossScaleMixer": [{"group_size": 3}, {"group_size": 2, "interval": 2}],
    "CrossShapedMixer": [{}, {"stripe_width": 3}],
    "FactorizationMixer": [{"window_size": 3}],
    "FusionMixer": [
        {
            "mixers": [
                {"type": "mmeffvit.SoftmaxMixer", "window_size": 3},
                {"type": "mmeffvit.PooledMixer", "reduction": 2},
            ]
        }
    ],
    "GaussianMixtureMixer": [{}, {"window_size": 3, "truncate": True}],
    "GroupLatentMixer": [{"group_size": 3, "num_latents": 2}],
    "GroupMixer": [{"num_groups": 4}],
    "MaSAMixer": [{}, {"decomposed": True}],
    "MSAConvMixer": [{"dilation": 2}],
    "NeighbourhoodMixer": [{"kernel_size": 3}],
    "PolylineMixer": [{}, {"decomposed": True}],
    "S3AMixer": [{"max_kernel": 3}],
    "ScatterMixer": [{"gate_size": (8, 8)}],
    "SECMixer": [{}, {"num_clusters": 4}],
    "SoftmaxMixer": [{}, {"window_size": 3}],
    "URPEMixer": [{"window_size": 3}, {"window_size": None, "grid_size": (4, 6)}],
}


def mixer_configs(
    options: Mapping[str, Sequence[Mapping[str, Any]]] = SMALL_OPTIONS,
) -> dict[str, dict[str, Any]]:
    """A config of every registered mixer of maps, by its name and arguments.

    A new mixer is among them by being registered.

    Args:
        options: Name of a mixer -> the arguments of each of its configs. Others have one, without.
    """
    mixers = sorted(
        name
        for name, cls in MODELS.module_dict.items()
        if isinstance(cls, type)
        and issubclass(cls, TokenMixer)
        and cls.__module__.startswith("mmeffvit.")
    )
    configs = {}
    for name in mixers:
        for arguments in options.get(name, [{}]):
            said = ", ".join(f"{k}={v}" for k, v in arguments.items() if not isinstance(v, list))
            configs[f"{name}({said})"] = {"type": f"mmeffvit.{name}", **arguments}
    return configs
