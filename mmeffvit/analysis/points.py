"""Rooms and sweeps of any size, and calls of the point networks on them, to be measured."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from mmeffvit.layers.points import PointLevel
from mmeffvit.layers.points.level import relative_bins
from mmeffvit.models.points import ConDaFormer, FlatFormer, PointSegmentor
from mmeffvit.ops.points import grid_cluster, unique_rows, window_attention

#: share of the voxels of a surface that hold a point
OCCUPANCY = 0.9
HEIGHT = 2.8


def synthetic_room(num_points: int, voxel_size: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A room with one point in each of `num_points` voxels; its area follows their number.

    Floor, ceiling, four walls, and a table-sized box for every 4 square metres.

    Returns:
        (N, 3) metres, and (N, 3) cells, in a random order.
    """
    generator = torch.Generator().manual_seed(seed)
    # floor, ceiling and boxes take 3.1 square metres per square metre, walls 4 * 2.8 per metre
    area = num_points * voxel_size**2 / OCCUPANCY
    side = (-4 * HEIGHT + math.sqrt((4 * HEIGHT) ** 2 + 4 * 3.1 * area)) / (2 * 3.1)
    side = max(side, 0.5)
    rectangles = [((0, 0, z), (side, 0, 0), (0, side, 0)) for z in (0, HEIGHT)]
    for offset in (0, side):
        rectangles.append(((offset, 0, 0), (0, side, 0), (0, 0, HEIGHT)))
        rectangles.append(((0, offset, 0), (side, 0, 0), (0, 0, HEIGHT)))
    for x, y in (torch.rand(round(side**2 / 4), 2, generator=generator) * (side - 1)).tolist():
        rectangles += [
            ((x, y, 0.75), (1.2, 0, 0), (0, 0.8, 0)),
            *(((x, y + dy, 0), (1.2, 0, 0), (0, 0, 0.75)) for dy in (0, 0.8)),
            *(((x + dx, y, 0), (0, 0.8, 0), (0, 0, 0.75)) for dx in (0, 1.2)),
        ]
    corner, first, second = (torch.tensor(v, dtype=torch.float32) for v in zip(*rectangles))
    areas = first.norm(dim=1) * second.norm(dim=1)
    xyz, cells = torch.empty(0, 3), torch.empty(0, 3)
    while len(cells) < num_points:
        which = torch.multinomial(areas, 3 * num_points, True, generator=generator)
        u, v = torch.rand(2, len(which), 1, generator=generator)
        noise = 0.005 * torch.randn(len(which), 3, generator=generator)
        xyz = torch.cat((xyz, corner[which] + u * first[which] + v * second[which] + noise))
        groups = unique_rows((xyz / voxel_size).floor().long())
        one_of_each = torch.zeros(len(groups), dtype=torch.int64).scatter_reduce_(
            0, groups.inverse, torch.arange(len(xyz)), "amin", include_self=False
        )
        xyz, cells = xyz[one_of_each], groups.rows
    keep = torch.randperm(len(cells), generator=generator)[:num_points]
    return xyz[keep], cells[keep]


def prepare_network(arch: str, num_points: int, implementation: str, device: str) -> Callable:
    """A call that runs the network once, forward and backward."""
    torch.manual_seed(0)
    backbone = ConDaFormer(arch, implementation=implementation or None)
    network = PointSegmentor(backbone, {"num_classes": 13}).to(device).train()
    xyz, cells = synthetic_room(num_points, backbone.voxel_size)
    voxels = torch.cat((xyz, torch.rand(len(xyz), backbone.in_channels - 3)), dim=1).to(device)
    coors = torch.cat((torch.zeros_like(cells[:, :1]), cells), dim=1).to(device)
    inputs = {"voxels": {"voxels": voxels, "coors": coors}}
    labels = torch.randint(0, 13, (len(xyz),), device=device)

    def call() -> None:
        network.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(network(inputs), labels).backward()

    return call


def first_level(arch: str, num_points: int, device: str) -> PointLevel:
    """The first pooled level of a room."""
    voxel_size = ConDaFormer.arch_zoo[arch]["voxel_size"]
    xyz, _ = synthetic_room(num_points, voxel_size)
    xyz = (xyz - xyz.amin(0)) / voxel_size
    clusters = grid_cluster(xyz, 2.0)
    mean = torch.zeros(len(clusters), 3).index_add_(0, clusters.inverse, xyz)
    counts = clusters.counts.float()
    offset = torch.tensor([len(clusters)])
    level = PointLevel(mean / counts[:, None], clusters.rows, offset, counts, stride=2)
    level.xyz, level.cells, level.counts = (
        t.to(device) for t in (level.xyz, level.cells, level.counts)
    )
    return level


def prepare_attention(arch: str, num_points: int, implementation: str, device: str) -> Callable:
    """A call that attends in the three planes of the first pooled level, forward and backward."""
    settings = ConDaFormer.arch_zoo[arch]
    size, quant = settings["window_size"], settings["quant_size"]
    level = first_level(arch, num_points, device)
    planes = level.plane_windows(size, quant, shifted=False)
    heads = settings["embed_dims"][0] // 16 // 3
    torch.manual_seed(0)
    shape = (len(level), heads, 16)
    qkv = [torch.randn(shape, device=device, requires_grad=True) for _ in range(3)]
    rows = 2 * relative_bins(size, quant) - 1
    tables = [(torch.randn(rows, 3, *shape[1:], device=device) * 0.02) for _ in range(3)]
    tables = [table.requires_grad_() for table in tables]
    grad = torch.randn(shape, device=device)
    for windows in planes:
        # structures are made once per level in the network, too
        _ = windows.pairs if implementation == "reference" else windows.layout

    def call() -> None:
        for windows in planes:
            out = window_attention(*qkv, *tables, windows, implementation=implementation)
            torch.autograd.grad(out, (*qkv, *tables), grad)

    return call


def describe_room(arch: str, num_points: int) -> tuple[int, int]:
    """Tokens of the first pooled level, and pairs that attend in its three planes."""
    level = first_level(arch, num_points, "cpu")
    settings = ConDaFormer.arch_zoo[arch]
    planes = level.plane_windows(settings["window_size"], settings["quant_size"], shifted=False)
    return len(level), sum(int(windows.counts.square().sum()) for windows in planes)


def synthetic_pillars(num_pillars: int, grid: tuple[int, int], seed: int = 0) -> Tensor:
    """(N, 4) distinct pillars (batch, z, y, x) around the sensor, as many at every distance."""
    generator = torch.Generator().manual_seed(seed)
    sides, cells = torch.tensor(grid), torch.empty(0, 2, dtype=torch.int64)
    while len(cells) < num_pillars:
        distance, turn = torch.rand(2, 4 * num_pillars, generator=generator)
        direction = torch.stack((turn, turn + 0.25), dim=1).mul(2 * math.pi).sin()
        new = ((0.5 + 0.5 * distance[:, None] * direction) * sides).long()
        cells = unique_rows(torch.cat((cells, new))).rows
    cells = cells[torch.randperm(len(cells), generator=generator)[:num_pillars]]
    x, y = unique_rows(cells).rows.unbind(1)
    return torch.stack((torch.zeros_like(x), torch.zeros_like(x), y, x), dim=1)


def prepare_flatformer(arch: str, num_points: int, implementation: str, device: str) -> Callable:
    """A call of the middle encoder alone, without gradients."""
    torch.manual_seed(0)
    network = FlatFormer(arch).to(device).eval()
    coors = synthetic_pillars(num_points, network.grid_size).to(device)
    feats = torch.randn(len(coors), network.in_channels, device=device)

    def call() -> None:
        with torch.no_grad():
            network(feats, coors, 1)

    return call


def describe_pillars(arch: str, num_points: int) -> tuple[int, int]:
    """Tokens with those that fill the last group, and pairs that attend in a layer."""
    size = FlatFormer.arch_zoo[arch]["group_size"]
    groups = math.ceil(num_points / size)
    return groups * size, groups * size**2
