"""The table of docs/mixers.md: what every registered token mixer costs and reads, measured.

python -m maintenance.mixers    # writes the table between the markers of the page
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from maintenance.pages import fill
from mmeffvit.analysis.complexity import count_complexity
from mmeffvit.analysis.results import markdown
from mmeffvit.layers import MapContext, TokenMixer
from mmeffvit.layers.points.attention import PointAttention
from mmeffvit.registry import MODELS
from mmeffvit.testing.mixers import mixer_configs

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/mixers.md"
DIM, HEADS = 64, 4
SIDES = (32, 64)
#: mixer -> arguments as networks have them, where those by default are not all
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "CrossScaleMixer": [{}, {"interval": 4}],
    "CrossShapedMixer": [{"stripe_width": 7}],
    "FusionMixer": [
        {
            "mixers": [
                {"type": "mmeffvit.SoftmaxMixer", "window_size": 7},
                {"type": "mmeffvit.PooledMixer"},
            ]
        }
    ],
    "GaussianMixtureMixer": [{}, {"window_size": 7}],
    "MaSAMixer": [{}, {"decomposed": True}],
    "PolylineMixer": [{}, {"decomposed": True}],
    "SECMixer": [{}, {"num_clusters": 16}],
    "SoftmaxMixer": [{}, {"window_size": 7}],
    "URPEMixer": [{}, {"window_size": None, "grid_size": (32, 32)}],
}
HEADINGS = ("mixer", "parameters", "MACs (M)", "times 4", "reads", "of tokens", "points")


def build(config: Mapping[str, Any]) -> TokenMixer:
    """A mixer in the size that the page is about."""
    torch.manual_seed(0)
    return MODELS.build({**config, "embed_dims": DIM, "num_heads": HEADS}).eval()


class _OfImage(nn.Module):
    """The mixer on a map of an image's size, as counters ask for."""

    def __init__(self, mixer: TokenMixer):
        super().__init__()
        self.mixer = mixer

    def forward(self, image: Tensor) -> Tensor:
        x = image.new_zeros(len(image), DIM, *image.shape[2:])
        return self.mixer(x, MapContext.of(x))


def macs(mixer: TokenMixer, side: int) -> int:
    """Multiply-accumulates on a square map."""
    return count_complexity(_OfImage(mixer), (side, side)).total_macs


def extent(mixer: TokenMixer, side: int) -> tuple[int, int, float]:
    """Rows and columns of what the middle token's output depends on, and the share of tokens."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, DIM, side, side, generator=generator).requires_grad_()
    out = mixer(x, MapContext.of(x))[0, :, side // 2, side // 2]
    (gradient,) = torch.autograd.grad(out @ torch.randn(DIM, generator=generator).to(out.dtype), x)
    read = gradient[0].abs().sum(0) > 0
    rows, columns = (axis.nonzero().flatten() for axis in (read.any(1), read.any(0)))
    return (
        int(rows[-1] - rows[0] + 1),
        int(columns[-1] - columns[0] + 1),
        float(read.float().mean()),
    )


def point_cores() -> set[type]:
    """Cores that registered mixers of points attend with."""
    classes = [cls for cls in MODELS.module_dict.values() if isinstance(cls, type)]
    return {type(cls(DIM, HEADS).core) for cls in classes if issubclass(cls, PointAttention)}


def rows() -> list[tuple[str, ...]]:
    """A row of the table for every mixer, and choice of arguments."""
    cores, table = point_cores(), []
    for name, config in mixer_configs(OPTIONS).items():
        mixer = build(config)
        small, large = (macs(mixer, side) for side in SIDES)
        height, width, share = extent(mixer, SIDES[0])
        table.append(
            (
                f"`{name.removesuffix('()')}`",
                f"{sum(p.numel() for p in mixer.parameters()):,}",
                f"{small / 1e6:.1f}",
                f"{large / small:.1f}",
                f"{height} x {width}",
                f"{share:.0%}",
                "yes" if type(getattr(mixer, "core", None)) in cores else "",
            )
        )
    return table


def table() -> str:
    """The table in Markdown."""
    return markdown(HEADINGS, rows())


def main() -> None:
    fill(PAGE, "mixers", table())


if __name__ == "__main__":
    main()
