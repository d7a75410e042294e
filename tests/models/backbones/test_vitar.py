"""ViTAR against its formulas: no code, weights or numbers of the authors' are public."""

import pytest
import torch
import torch.nn.functional as F

from mmeffvit.checkpoint import load_weights
from mmeffvit.layers.position_table import FuzzyPositionTable
from mmeffvit.layers.token_merger import Cells, TokenMerger, end_padded, spread_padded
from mmeffvit.models import PlainViT, ViTAR
from mmeffvit.models.classifier import create_classifier

from .tiny import ARCHS

ARCH = ARCHS["vitar"]
CPU = torch.device("cpu")


def build(seed=0, **kwargs):
    torch.manual_seed(seed)
    return ViTAR(ARCH, **kwargs)


def randomized(module):
    """Also what starts at zero."""
    for p in module.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return module


@pytest.mark.parametrize(("variant", "count"), [("small", 23_824_360), ("base", 93_653_992)])
def test_parameters_of_the_classifier(variant, count):
    with torch.device("meta"):
        classifier = create_classifier(f"vitar-{variant}")
    assert sum(p.numel() for p in classifier.parameters()) == count


@pytest.mark.parametrize(("n", "cells"), [(4, 3), (18, 14), (20, 14), (27, 14), (28, 14), (35, 18)])
def test_grid_padding_gives_the_first_cells_one_token(n, cells):
    index, valid = spread_padded(n, cells, CPU)
    assert index.shape == (cells, 2)
    assert index[valid].tolist() == list(range(n))
    assert valid.sum(1).tolist() == [1] * (2 * cells - n) + [2] * (n - cells)


@pytest.mark.parametrize(("n", "side"), [(5, 2), (6, 2), (1, 2), (4, 1)])
def test_padding_at_the_end_keeps_cells_in_place(n, side):
    index, valid = end_padded(n, side, CPU)
    assert index[valid].tolist() == list(range(n))
    assert all(index[c, s] == side * c + s for c, s in valid.nonzero().tolist())


@pytest.mark.parametrize("implementation", ["fused", "reference"])
def test_a_pass_of_the_merger_cell_by_cell(implementation):
    merger = randomized(TokenMerger(12, 3, 20, implementation=implementation)).double()
    x = torch.randn(2, 12, 5, 7, dtype=torch.float64)
    actual = merger(x, Cells.of(spread_padded(5, 3, CPU), end_padded(7, 2, CPU), 7))
    rows, columns = ([0], [1, 2], [3, 4]), ([0, 1], [2, 3], [4, 5], [6])

    def linear(layer, t):
        return F.linear(t, layer.weight[..., 0, 0], layer.bias)

    def norm(layer, t):
        return F.layer_norm(t, (12,), layer.weight, layer.bias, 1e-6)

    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            tokens = x[:, :, row][..., column].flatten(2).transpose(1, 2)  # (B, K, C)
            mean = tokens.mean(1)
            q = linear(merger.query, norm(merger.norm1, mean)).view(2, 3, 4)
            k, v = (
                linear(layer, norm(merger.norm1, tokens)).view(2, -1, 3, 4)
                for layer in (merger.key, merger.value)
            )
            weights = (torch.einsum("bhd,bkhd->bhk", q, k) / 2).softmax(-1)
            out = torch.einsum("bhk,bkhd->bhd", weights, v).flatten(1)
            z = mean + linear(merger.proj, out)
            hidden = F.gelu(linear(merger.ffn.fc1, norm(merger.norm2, z)))
            expected = z + linear(merger.ffn.fc2, hidden)
            torch.testing.assert_close(actual[:, :, i, j], expected)


def test_a_new_merger_averages_pass_after_pass():
    network = build(mode="fixed_grid").eval()  # its grid is 3 x 3
    x = torch.randn(1, 16, 4, 12)
    # 4 rows: the first two alone, then a pair; 12 columns: 6, then 3
    rows = torch.stack((x[:, :, 0], x[:, :, 1], (x[:, :, 2] + x[:, :, 3]) / 2), 2)
    expected = F.avg_pool2d(rows, (1, 4))
    torch.testing.assert_close(network._to_grid(x), expected)
    same = torch.full((1, 16, 7, 11), 2.5)
    torch.testing.assert_close(network._to_grid(same), torch.full((1, 16, 3, 3), 2.5))


@pytest.mark.parametrize("size", [(224, 224), (240, 4032), (1120, 1120), (448, 896), (431, 1333)])
def test_every_image_comes_to_the_grid(size):
    with torch.device("meta"):
        network = ViTAR({**ARCH, "image_size": 224}, mode="fixed_grid").eval()
        assert network(torch.empty(1, 3, *size))[0].shape == (1, 16, 14, 14)
        # a smaller one keeps its tokens
        assert network(torch.empty(1, 3, 33, 100))[0].shape == (1, 16, 3, 7)


def test_positions_are_read_beside_the_token_in_training():
    torch.manual_seed(0)
    table = FuzzyPositionTable(5, (3, 4))  # not square: rows and columns differ
    own = table.of_map(3, 4)
    zeros = torch.zeros(1, 6, 9, 2)
    expected = F.interpolate(own, (6, 9), mode="bilinear", align_corners=False)
    torch.testing.assert_close(table.at(zeros), expected)
    torch.testing.assert_close(table.eval().of_map(6, 9), expected)
    down, right = (torch.tensor(move).expand(1, 3, 4, 2) for move in ((1.0, 0), (0, 1.0)))
    torch.testing.assert_close(table.at(down)[:, :, :-1], own[:, :, 1:])
    torch.testing.assert_close(table.at(right)[..., :-1], own[..., 1:])
    # beyond the border, the border
    torch.testing.assert_close(table.at(down)[:, :, -1], own[:, :, -1])
    half = table.at(down / 2)[:, :, 0]
    torch.testing.assert_close(half, (own[:, :, 0] + own[:, :, 1]) / 2)
    x = torch.zeros(2, 5, 3, 4)
    assert torch.equal(table.eval()(x), own.expand(2, -1, -1, -1))
    first, second = table.train()(x), table(x)
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])
    assert (first - own).abs().max() < own.abs().max() * 2


@pytest.mark.parametrize(
    "options", [{"mode": "fixed_grid"}, {"merge_ratio": 2}, {"merge_ratio": 1}], ids=str
)
def test_every_parameter_has_a_gradient(options):
    network = randomized(build(**options))
    for size in ((48, 48), (65, 130)):
        network.zero_grad()
        (out,) = network(torch.randn(2, 3, *size))
        (out * torch.randn_like(out)).sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype=dtype):
            assert network(torch.randn(1, 3, 33, 97))[0].isfinite().all()


def test_dense_maps_merge_or_keep_tokens():
    image = torch.randn(1, 3, 70, 101)
    for ratio in (1, 2):
        network = build(merge_ratio=ratio, out_indices=(0, 1)).eval()
        assert network.out_strides == (16 * ratio,) * 2
        sides = [-(-side // (16 * ratio)) for side in (70, 101)]
        assert [list(out.shape[2:]) for out in network(image)] == [sides] * 2
        assert [b.mixer.core.window_size for b in network.blocks] == [2, None]
    grid = build(mode="fixed_grid")
    assert [b.mixer.core.window_size for b in grid.blocks] == [None, None]


def test_weights_of_the_grid_serve_dense_maps():
    grid = randomized(build(mode="fixed_grid"))
    report = load_weights(build(), grid.state_dict())
    assert sorted(report.ignored) == [
        f"merger.{part}.{kind}" for part in ("key", "query") for kind in ("bias", "weight")
    ]
    assert not load_weights(build(merge_ratio=2), grid.state_dict()).ignored


def test_a_plain_vit_keeps_its_outputs_at_its_own_size():
    torch.manual_seed(0)
    plain = randomized(PlainViT({**ARCH, "window_sizes": None})).eval()
    network = build(mode="fixed_grid").eval()
    report = load_weights(network, plain.state_dict())
    assert set(report.missing) == {k for k in network.state_dict() if k.startswith("merger.")}
    image = torch.randn(1, 3, 48, 48)
    torch.testing.assert_close(network(image)[0], plain(image)[0])


def test_impossible_arguments():
    with pytest.raises(ValueError, match="mode must be one of 'dense', 'fixed_grid' and merge"):
        build(mode="grid")
    with pytest.raises(ValueError, match="got 'dense' and 4"):
        build(merge_ratio=4)
