"""What `torch.compile` brings in training: time beside eager, and graphs over several sizes.

`tools/analysis/compile_report.py` is its command line.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmeffvit.analysis import results
from mmeffvit.analysis.backbones import build_backbone, is_registered_type, parse_spec
from mmeffvit.analysis.benchmark import paired_ratio, time_in_turn
from mmeffvit.models import zoo
from mmeffvit.models.network import input_channels
from mmeffvit.testing import relative_rms_error

COLUMNS = (
    "backbone",
    "height",
    "width",
    "batch",
    "eager_cpu_s",
    "compiled_cpu_s",
    "ratio",
    "first_step_s",
    "graphs",
    "gradient_error",
    "note",
    *results.ENVIRONMENT_COLUMNS,
)
"""``ratio`` is compiled over eager, ``graphs`` those that a size made anew, ``first_step_s`` the
time of the first step at that size, compilation included."""


def measure(
    name: str,
    sizes: Sequence[tuple[int, int]],
    *,
    batch: int = 1,
    rounds: int = 3,
    backend: str = "inductor",
    blocks: int | None = None,
) -> Iterator[dict[str, Any]]:
    """Forward and backward of a backbone in training mode, eager and compiled for all sizes.

    It is compiled as `mmeffvit.CompileBackboneHook` does it. All sizes are gone through first, so
    that a size is timed with the graphs that stay. Times are those of the processor: on a machine
    that does other things too, they can be compared where wall times cannot.

    Args:
        name: Of the backbone.
        sizes: Heights and widths, in the order in which they are met.
        batch: Images.
        rounds: Timed steps of each, in turn.
        backend: Of `torch.compile`.
        blocks: How many blocks a stage has at most; all if None. Compilation takes as long as
            there are blocks, and what is gained in one is gained in the next.

    Yields:
        One row for each size, without the environment.
    """
    torch.manual_seed(0)
    network = build_backbone(name) if blocks is None else _shallow(name, blocks)
    network.train()
    torch._dynamo.reset()
    counter = _Counter(backend)
    compiled = torch.compile(network, backend=counter, dynamic=True)
    images = [_image(network, batch, size) for size in sizes]
    rows = []
    for size, image in zip(sizes, images):
        row = dict(zip(("backbone", "height", "width", "batch"), (name, *size, batch)))
        before, start = counter.graphs, time.perf_counter()
        actual = _step(network, compiled, image)
        row["first_step_s"] = f"{time.perf_counter() - start:.1f}"
        row["graphs"] = counter.graphs - before
        expected = _step(network, network, image)
        row["gradient_error"] = f"{relative_rms_error(actual, expected):.1e}"
        rows.append(row)
    for row, image in zip(rows, images):
        calls = {
            way: (lambda run=run, image=image: _step(network, run, image))
            for way, run in (("eager", network), ("compiled", compiled))
        }
        times = time_in_turn(calls, rounds, clock=time.process_time)
        for way, own in times.items():
            row[f"{way}_cpu_s"] = f"{statistics.median(own):.4g}"
        row["ratio"] = f"{paired_ratio(times['compiled'], times['eager']):.2f}"
        yield row


def _shallow(name: str, blocks: int) -> nn.Module:
    """A named pyramid with at most so many blocks in a stage.

    Raises:
        ValueError: It is not one of our backbones, or has no stages.
    """
    if is_registered_type(name):
        raise ValueError(f"only stages of our own backbones can have fewer blocks, not {name}'s")
    name, options = parse_spec(name)
    family, variant = zoo.split_name(name)
    network = zoo.backbone_classes()[family]
    arch = network.arch_zoo[variant]
    depths = arch.get("depths")
    if not isinstance(depths, tuple) or not all(isinstance(depth, int) for depth in depths):
        raise ValueError(f"{name} has no stages of blocks that could be fewer; measure all of it")

    def cut(stages: Any) -> Any:
        if not isinstance(stages, tuple) or len(stages) != len(depths):
            return stages
        # of a stage there may be an entry for each block
        return tuple(
            of[:blocks] if isinstance(of, tuple) and len(of) == depth else of
            for of, depth in zip(stages, depths)
        )

    fewer = tuple(min(depth, blocks) for depth in depths)
    arch = {key: cut(value) for key, value in arch.items()} | {"depths": fewer}
    return network(arch=arch, **options)


class _Counter:
    """A backend that counts the graphs it is given."""

    def __init__(self, backend: str):
        self.compile = torch._dynamo.lookup_backend(backend)
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: Sequence[Any]) -> Callable:
        self.graphs += 1
        return self.compile(graph, inputs)


def _image(network: nn.Module, batch: int, size: tuple[int, int]) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, input_channels(network), *size, generator=generator)


def _step(network: nn.Module, run: Callable, image: Tensor) -> Tensor:
    """All gradients in one vector."""
    network.zero_grad(set_to_none=True)
    torch.manual_seed(2)  # of dropped paths
    maps = run(image)
    maps = maps if isinstance(maps, tuple | list) else (maps,)
    # the mean of a normed map has no gradients
    sum((m * m.detach().sin()).mean() for m in maps).backward()
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def format_rows(rows: Sequence[dict[str, Any]]) -> str:
    """A table in Markdown: a line for each backbone and size."""
    head = ["backbone", "size", "eager, s", "compiled, s", "ratio", "first step, s", "new graphs"]
    lines = []
    for row in rows:
        size = f"{row['height']}x{row['width']}" if row["height"] else ""
        values = ("eager_cpu_s", "compiled_cpu_s", "ratio", "first_step_s", "graphs")
        if row["note"]:
            lines.append([row["backbone"], size, row["note"], *[""] * (len(head) - 3)])
        else:
            lines.append([row["backbone"], size, *(str(row[value]) for value in values)])
    return results.markdown(head, lines).rstrip("\n")
