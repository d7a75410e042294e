"""What it costs to train a backbone: whole, frozen, with low-rank adapters or AdaptFormer's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from mmeffvit.analysis.backbones import build_backbone
from mmeffvit.analysis.benchmark import describe_environment
from mmeffvit.analysis.memory import MIB, peak_memory
from mmeffvit.analysis.results import ENVIRONMENT_COLUMNS
from mmeffvit.models.network import input_channels
from mmeffvit.models.tuning import tuned_backbone

#: by name: arguments of `tuned_backbone`; None leaves the backbone as it is
METHODS: dict[str, dict[str, Any] | None] = {
    "full": None,
    "frozen": {},
    "lora=8": {"lora": 8},
    "adaptformer=64": {"adaptformer": 64},
}
COLUMNS = (
    "backbone",
    "method",
    "batch_size",
    "side",
    "parameters",
    "trainable",
    "peak_memory_mib",
    *ENVIRONMENT_COLUMNS,
    "command",
)


def build_tuned(backbone: str, method: str) -> nn.Module:
    """A backbone of `build_backbone`, tuned as a method of `METHODS` says."""
    torch.manual_seed(0)
    network = build_backbone(backbone)
    arguments = METHODS[method]
    return network if arguments is None else tuned_backbone(network, **arguments)


def prepare_step(backbone: str, method: str, batch_size: int, side: int) -> Callable[[], None]:
    """Build a backbone; the returned call is a step of training with AdamW, on the mean of maps.

    Gradients and the moments of AdamW are made in the first call.
    """
    network = build_tuned(backbone, method)
    network.train()
    image = torch.randn(batch_size, input_channels(network), side, side)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    # something that follows the backbone is always trained
    scale = nn.Parameter(torch.ones(()))
    optimizer = torch.optim.AdamW([*trained, scale])

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        (scale * sum(x.mean() for x in network(image))).backward()
        optimizer.step()

    return step


def measure(
    backbones: Sequence[str], batch_size: int = 2, side: int = 224
) -> Iterator[dict[str, str]]:
    """A row of `COLUMNS` for each backbone and method, without the command.

    Memory is the peak above weights and images, of the first step in a process of its own:
    activations, gradients and moments.
    """
    for backbone in backbones:
        for method in METHODS:
            setting = backbone, method, batch_size, side
            peak = peak_memory(prepare_step, *setting)
            parameters = list(build_tuned(backbone, method).parameters())
            yield {
                "backbone": backbone,
                "method": method,
                "batch_size": str(batch_size),
                "side": str(side),
                "parameters": str(sum(p.numel() for p in parameters)),
                "trainable": str(sum(p.numel() for p in parameters if p.requires_grad)),
                "peak_memory_mib": f"{peak / MIB:.0f}",
                **describe_environment(),
            }


def format_table(rows: Sequence[Mapping[str, str]]) -> str:
    """The rows as a table in Markdown."""
    lines = [
        "| backbone | trained | parameters trained (M) | of all | peak memory (MiB) |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        trainable, parameters = int(row["trainable"]), int(row["parameters"])
        lines.append(
            f"| {row['backbone']} | {row['method']} | {trainable / 1e6:.2f} | "
            f"{trainable / parameters:.1%} | {row['peak_memory_mib']} |"
        )
    return "\n".join(lines)
