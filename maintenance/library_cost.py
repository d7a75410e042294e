"""What `LibraryBackbone` costs over the library's own network, in processor time.

``python -m maintenance.library_cost --out docs/benchmarks/libraries_cpu.csv``: both are called in
turn, in one process, on images that need no padding; a ratio is the median of the rounds' own.
"""

import argparse
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmeffvit.analysis.benchmark import describe_environment, paired_ratio, time_in_turn
from mmeffvit.analysis.results import ENVIRONMENT_COLUMNS, write_csv
from mmeffvit.models import LibraryBackbone

NETWORKS = (
    ("timm/resnet18", {}),
    ("timm/convnextv2_atto", {}),
    ("timm/vit_tiny_patch16_224", {"out_norm": False}),  # as timm's own features_only
    ("hf/dinov2", {"hidden_size": 192, "num_attention_heads": 3, "patch_size": 16}),
    ("hf/convnext", {}),
)
COLUMNS = (
    *("backbone", "mode", "side", "rounds", "bare_ms", "wrapped_ms", "ratio"),
    *ENVIRONMENT_COLUMNS,
    "command",
)


def bare(backbone: LibraryBackbone) -> Callable[[Tensor], Sequence[Tensor]]:
    """How a user of the library gets the same maps without us."""
    if not backbone.name.startswith("timm/"):
        return lambda x: backbone.network(x).feature_maps
    import timm

    network = timm.create_model(
        backbone.library.name,
        features_only=True,
        feature_cls="getter",
        out_indices=backbone.out_indices,
        **({"dynamic_img_size": True} if backbone.facts.is_plain else {}),
    )
    network.model.load_state_dict(backbone.network.state_dict())
    return network


def measure(name: str, options: dict[str, Any], mode: str, side: int, rounds: int) -> dict:
    """A row of the table.

    Raises:
        ValueError: The two return different maps.
    """
    torch.manual_seed(0)
    backbone = LibraryBackbone(name, **options)
    theirs = bare(backbone)
    x = torch.randn(1, 3, side, side)
    for module in (backbone, theirs):
        if isinstance(module, nn.Module):
            module.train(mode == "train").requires_grad_(mode == "train")
    with torch.no_grad():
        if mode == "forward" and not all(map(torch.equal, backbone(x), theirs(x))):
            raise ValueError(f"{name} returns other maps than its library")

    def call(forward: Callable[[Tensor], Sequence[Tensor]]) -> Callable[[], None]:
        def run() -> None:
            with torch.set_grad_enabled(mode == "train"):
                maps = forward(x)
                if mode == "train":
                    sum(y.mean() for y in maps).backward()

        return run

    calls = {"bare": call(theirs), "wrapped": call(backbone)}
    times = time_in_turn(calls, rounds, warmup=2, clock=time.process_time)
    return {
        "backbone": name,
        "mode": mode,
        "side": side,
        "rounds": rounds,
        **{f"{k}_ms": f"{1e3 * statistics.median(v):.1f}" for k, v in times.items()},
        "ratio": f"{paired_ratio(times['wrapped'], times['bare']):.3f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(1)
    command = shlex.join(["python", "-m", "maintenance.library_cost", *sys.argv[1:]])
    rows = []
    for name, options in NETWORKS:
        for mode in ("forward", "train"):
            row = measure(name, options, mode, args.side, args.rounds)
            rows.append({**row, **describe_environment(), "command": command})
            write_csv(args.out, rows, COLUMNS)


if __name__ == "__main__":
    main()
