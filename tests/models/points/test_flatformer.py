import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmeffvit.checkpoint import CheckpointError, convert_official, load_weights
from mmeffvit.models.points import DynamicVFE, FlatFormer
from mmeffvit.models.points.backbones import flatformer
from mmeffvit.ops.points import dynamic_voxelize
from mmeffvit.registry import MODELS
from mmeffvit.testing import TOLERANCES, check_golden, golden_weights, relative_rms_error

GOLDEN = Path(__file__).parents[2] / "data" / "golden" / "flatformer.npz"
TINY = {
    "embed_dims": 18,  # no multiple of four: the last two channels have no position
    "num_heads": 3,
    "num_blocks": 1,
    "mlp_ratio": 2,
    "group_size": 8,
    "window_size": (3, 5),
    "grid_size": (17, 11),
}
RANGE = (-8.5, -5.5, -2, 8.5, 5.5, 4)


def pillars(counts=(50, 21), grid=(17, 11), channels=18, seed=0):
    """Some pillars of each sample: (N, C) features and (N, 4) coors."""
    generator = torch.Generator().manual_seed(seed)
    coors = []
    for sample, count in enumerate(counts):
        cells = torch.randperm(grid[0] * grid[1], generator=generator)[:count].sort().values
        y, x = cells // grid[0], cells % grid[0]
        coors.append(torch.stack((torch.full_like(x, sample), torch.zeros_like(x), y, x), dim=1))
    coors = torch.cat(coors)
    return torch.randn(len(coors), channels, generator=generator), coors


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return FlatFormer(TINY).eval()


@pytest.fixture(scope="module")
def official():
    return golden_weights(GOLDEN)


def test_equals_the_authors_numbers():
    errors = check_golden(GOLDEN)
    assert {"mid/x", "mid/x_shift", "mid/y", "mid/y_shift", "mid/flat2win"} < set(errors)
    assert {"out/block0", "out/block1", "out/bev", "op/group_attention/out"} < set(errors)
    assert {name: e for name, e in errors.items() if not e <= TOLERANCES["flatformer"]} == {}
    assert all(errors[name] == 0 for name in errors if "mid" in name and "embed" not in name)


def literal_layer(layer, x, pos, order, counts, group_size):
    """Token by token, as the paper says; a sample with less than a group is one short group."""
    channels, heads = x.shape[1], layer.attn.num_heads
    (wq, wk, wv), (bq, bk, bv) = layer.attn.qkv.weight.chunk(3), layer.attn.qkv.bias.chunk(3)
    attended, start = torch.zeros_like(x), 0
    for count in counts:
        tokens = order[start : start + count].tolist()
        start += count
        for first in range(0, count, group_size):
            queries = tokens[first : first + group_size]
            keys = list(queries)
            if first and len(queries) < group_size:
                # filled up from the same places of the group before
                keys += tokens[first - group_size + len(queries) : first]
            q, k = ((x + pos)[rows] @ w.T + b for rows, w, b in ((queries, wq, bq), (keys, wk, bk)))
            v = x[keys] @ wv.T + bv
            parts = []
            for head in range(heads):
                part = slice(head * channels // heads, (head + 1) * channels // heads)
                weights = (q[:, part] @ k[:, part].T / (channels // heads) ** 0.5).softmax(-1)
                parts.append(weights @ v[:, part])
            attended[queries] = torch.cat(parts, dim=1)
    x = layer.norm1(x + layer.attn.proj(attended))
    return layer.norm2(x + layer.fc2(F.gelu(layer.fc1(x))))


class TestMiddleEncoder:
    @pytest.mark.parametrize("counts", [(50, 21), (16, 8), (3, 1, 9), (7,)])
    def test_equals_the_literal_formula(self, tiny, counts):
        network = tiny.double()
        x, coors = pillars(counts)
        x = x.double()
        out = network(x, coors, len(counts))
        pos = network.position_embedding(coors).double()
        batch, _, y, col = coors.unbind(1)
        for layer, (axis, shifted) in zip(
            network.blocks[0], (("x", 0), ("x", 1), ("y", 0), ("y", 1))
        ):
            order = literal_order(coors, network.window_size, network.grid_size, axis, shifted)
            x = literal_layer(layer, x, pos, order, counts, network.group_size)
        expected = torch.zeros(len(counts), 18, 11, 17, dtype=torch.float64)
        expected[batch, :, y, col] = x
        torch.testing.assert_close(out, expected, rtol=1e-9, atol=1e-9)

    def test_position_embedding(self, tiny):
        _, coors = pillars()
        pe = tiny.position_embedding(coors)
        half = 8
        for n in (0, 33, 70):
            for axis, u in enumerate((coors[n, 3].item(), coors[n, 2].item())):
                for i in range(half):
                    angle = u / 10000 ** (2 * (i // 2) / half)
                    expected = np.cos(angle) if i % 2 else np.sin(angle)
                    assert pe[n, axis * half + i].item() == pytest.approx(expected, abs=1e-5)
        assert (pe[:, 16:] == 0).all()
        normed = FlatFormer(TINY, normalize_pos=True).position_embedding(coors)
        angle = coors[:, 3] / 17 * 2 * 3.1415
        torch.testing.assert_close(normed[:, 0], angle.sin(), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("counts", [(50, 21), (3, 40), (40, 3, 9)])
    def test_samples_do_not_depend_on_each_other(self, tiny, counts):
        x, coors = pillars(counts)
        out = tiny(x, coors, len(counts))
        for sample in range(len(counts)):
            own = coors[:, 0] == sample
            alone = tiny(x[own], coors[own] - torch.tensor([sample, 0, 0, 0]), 1)
            torch.testing.assert_close(out[sample : sample + 1], alone, rtol=1e-4, atol=1e-5)

    def test_order_of_rows_does_not_matter(self, tiny):
        x, coors = pillars()
        shuffled = torch.randperm(len(x))
        torch.testing.assert_close(
            tiny(x[shuffled], coors[shuffled], 2), tiny(x, coors, 2), rtol=1e-4, atol=1e-5
        )

    def test_pillars_of_no_sample_and_of_some(self, tiny):
        x, coors = pillars((5, 9))
        coors[:, 0] = coors[:, 0] * 2 + 1  # samples 0 and 2 have none
        out = tiny(x, coors, 5)
        assert [bool(m.any()) for m in out] == [False, True, False, True, False]
        expected = tiny(*pillars((5, 9)), 2)
        torch.testing.assert_close(out[[1, 3]], expected, rtol=1e-4, atol=1e-5)
        empty = tiny(x[:0], coors[:0], 2)
        assert empty.shape == (2, 18, 11, 17)
        assert not empty.any()

    def test_first_pillar_is_there(self, tiny):
        x, coors = pillars()
        out = tiny(x, coors, 2)
        batch, _, y, col = coors.unbind(1)
        assert (out[batch, :, y, col] != 0).any(1).all()
        assert int((out != 0).any(1).sum()) == len(x)

    def test_input_is_left_as_it_was(self, tiny):
        x, coors = pillars()
        before = x.clone(), coors.clone()
        tiny(x, coors, 2)
        assert torch.equal(x, before[0])
        assert torch.equal(coors, before[1])

    def test_groups_are_made_once(self, tiny, monkeypatch):
        network, calls = FlatFormer({**TINY, "num_blocks": 3}).eval(), []
        make = flatformer.equal_groups
        monkeypatch.setattr(flatformer, "equal_groups", lambda *a: calls.append(1) or make(*a))
        network(*pillars(), 2)
        assert len(calls) == 1

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda x, c: (x[:, 1:], c), r"shape \(N, 18\), got \(71, 17\)"),
            (lambda x, c: (x, c[:, 1:]), r"\(batch, z, y, x\) per pillar, \(71, 4\)"),
            (lambda x, c: (x, c.flip(1)), r"lie outside of 2 samples of 17 x 11 \(x, y\) pillars"),
            (lambda x, c: (x, c + torch.tensor([1, 0, 0, 0])), "21 pillars lie outside .* row 50"),
            (lambda x, c: (x, c - 1), "lie outside"),
            (lambda x, c: (x, c * torch.tensor([1, 1, 1, 0])), "there more than once"),
        ],
    )
    def test_bad_input(self, tiny, change, message):
        with pytest.raises(ValueError, match=message):
            tiny(*change(*pillars()), 2)

    def test_bad_types_and_arguments(self, tiny):
        x, coors = pillars()
        with pytest.raises(TypeError, match=r"integers .* got torch\.float32"):
            tiny(x, coors.float(), 2)
        assert torch.equal(tiny(x, coors.int(), 2), tiny(x, coors, 2))
        for change, message in (
            ({"num_heads": 4}, "multiple of num_heads, got 18 and 4"),
            ({"group_size": 0}, "group_size must be at least 1"),
            ({"window_size": (3,)}, "window_size needs two positive sides"),
            ({"grid_size": (17, 0)}, "grid_size needs two positive sides"),
        ):
            with pytest.raises(ValueError, match=message):
                FlatFormer({**TINY, **change})
        with pytest.raises(ValueError, match="'gelu' or 'relu', got 'glu'"):
            FlatFormer(TINY, activation="glu")


def literal_order(coors, window, grid, axis, shifted):
    """The published keys, in words of the paper, sorted by (sample, key)."""
    keys = []
    (wx, wy), (nx, ny) = window, grid
    n, m = 2 * (-(-nx // wx) + 1), 2 * (-(-ny // wy) + 1)
    area = 4 * wx * wy
    for batch, _, y, x in coors.tolist():
        if shifted:
            x, y = x + wx // 2, y + wy // 2
        x1, x2, y1, y2 = x // wx, x % wx, y // wy, y % wy
        if axis == "x":
            inside = 2 * wy * x2 + (-1) ** x2 * y2
            key = (n * y1 + (-1) ** y1 * x1) * area + (-1) ** y1 * inside
        else:
            inside = 2 * wx * y2 + (-1) ** y2 * x2
            key = (m * x1 + (-1) ** x1 * y1) * area + (-1) ** x1 * inside
        keys.append((batch, key))
    return torch.tensor(sorted(range(len(keys)), key=keys.__getitem__))


class TestTraining:
    @pytest.mark.parametrize("counts", [(50, 21), (20, 3)])
    def test_every_parameter_gets_a_gradient(self, counts):
        network = FlatFormer({**TINY, "num_blocks": 2}).train()
        x, coors = pillars(counts)
        x.requires_grad_()
        network(x, coors, 2).square().mean().backward()
        assert [n for n, p in network.named_parameters() if p.grad is None] == []
        assert all(p.grad.isfinite().all() for p in (x, *network.parameters()))

    def test_gradient_is_the_derivative(self, tiny):
        network = tiny.double()
        x, coors = pillars((13, 5))
        torch.autograd.gradcheck(
            lambda x: network(x, coors, 2), x.double().requires_grad_(), fast_mode=True
        )

    def test_recomputing_changes_nothing(self):
        results = []
        for with_cp in (False, True):
            torch.manual_seed(0)
            network = FlatFormer(TINY, with_cp=with_cp).train()
            out = network(*pillars(), 2)
            results.append((out, *torch.autograd.grad(out.square().sum(), network.parameters())))
        for actual, expected in zip(*results):
            torch.testing.assert_close(actual, expected)

    @pytest.mark.parametrize("counts", [(50, 21), (20, 3)])
    def test_autocast(self, counts):
        network = FlatFormer(TINY).train()
        x, coors = pillars(counts)
        expected = copy.deepcopy(network)(x, coors, 2)
        with torch.autocast("cpu", torch.bfloat16):
            out = network(x, coors, 2)
        out.float().square().mean().backward()
        assert relative_rms_error(out.float(), expected) < 0.05
        assert all(p.grad.isfinite().all() for p in network.parameters())

    def test_initial_weights(self):
        network = FlatFormer({**TINY, "embed_dims": 96})
        attn = network.blocks[0][0].attn
        # the joint matrix counts as one
        limit = (6 / (96 + 3 * 96)) ** 0.5
        assert attn.qkv.weight.abs().max().item() == pytest.approx(limit, rel=0.01)
        assert not attn.qkv.bias.any()
        assert not attn.proj.bias.any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_same_on_a_gpu(tiny):
    x, coors = pillars((50, 3))
    expected = tiny(x, coors, 2)
    actual = tiny.cuda()(x.cuda(), coors.cuda(), 2)
    assert (actual.cpu() - expected).abs().max() < 1e-4


class TestConverter:
    def test_every_weight_finds_its_place(self, official):
        conversion = convert_official(official, "flatformer")
        arch = {**TINY, "embed_dims": 32, "num_heads": 4, "num_blocks": 2}
        network = FlatFormer(arch)
        expected = {f"middle_encoder.{key}" for key in network.state_dict()}
        assert conversion.state_dict.keys() == expected
        assert conversion.ignored == {}
        assert conversion.variant is None
        report = load_weights(network, conversion.state_dict, "middle_encoder.")
        assert len(report.loaded) == len(expected)
        weight = official["block_list.1.block.2.attn.attn.in_proj_weight"]
        assert torch.equal(network.blocks[1][2].attn.qkv.weight, weight)

    def test_other_weights_are_refused(self, official):
        with pytest.raises(CheckpointError, match="look like flatformer"):
            convert_official(official, "secvit")
        with pytest.raises(CheckpointError, match="not weights of flatformer"):
            convert_official({"stem.0.weight": torch.zeros(1)}, "flatformer")
        # a part of a detector, but not the one that makes it a FlatFormer
        with pytest.raises(CheckpointError, match="not weights of flatformer"):
            convert_official({"neck.deblocks.0.0.weight": torch.zeros(1)}, "flatformer")


class TestVoxelEncoder:
    @staticmethod
    def cloud(count=300, seed=0):
        generator = torch.Generator().manual_seed(seed)
        points = torch.rand(count, 5, generator=generator) - 0.5
        points[:, :3] = points[:, :3] * torch.tensor([6.0, 5.0, 3.0]) + torch.tensor([0, 0, 1.0])
        batch = (torch.arange(count) > count // 2).long()
        voxel = dynamic_voxelize(points, (1, 1, 6), RANGE)
        return points, torch.cat((batch[:, None], voxel), dim=1)

    @staticmethod
    def encoder(**kwargs):
        torch.manual_seed(0)
        kwargs = {"feat_channels": (4, 6), **kwargs}
        return DynamicVFE(5, voxel_size=(1, 1, 6), point_cloud_range=RANGE, **kwargs)

    def test_equals_the_literal_formula(self):
        encoder = self.encoder().double()
        for layer in encoder.vfe_layers:
            nn.init.normal_(layer.norm.running_mean)
            nn.init.uniform_(layer.norm.running_var, 0.5, 2)
        points, coors = self.cloud()
        points = points.double()
        out, voxels = encoder.eval()(points, coors)
        rows = sorted({tuple(row) for row in coors.tolist()})
        assert voxels.tolist() == [list(row) for row in rows]
        first, second = encoder.vfe_layers
        for row, actual in zip(rows, out):
            own = points[(coors == torch.tensor(row)).all(1)]
            _, z, y, x = row
            centre = torch.tensor([x - 8.5 + 0.5, y - 5.5 + 0.5, z * 6 - 2 + 3])
            xyz = own[:, :3]
            h = first(torch.cat((own, xyz - xyz.mean(0), xyz - centre), dim=1))
            h = second(torch.cat((h, h.amax(0).expand_as(h)), dim=1))
            torch.testing.assert_close(actual, h.amax(0), rtol=1e-6, atol=1e-6)

    def test_points_out_of_range_are_left_out(self):
        encoder = self.encoder().eval()
        points, coors = self.cloud()
        expected = encoder(points[20:], coors[20:])
        marked, far = coors.clone(), points.clone()
        marked[:20, 1:], far[:20] = -1, torch.inf
        for actual, wanted in zip(encoder(far, marked), expected):
            assert torch.equal(actual, wanted)
        nothing, voxels = encoder(points[:0], coors[:0])
        assert (nothing.shape, voxels.shape) == ((0, 6), (0, 4))

    def test_one_point_and_many_equal_ones(self):
        encoder = self.encoder().eval()
        points, coors = self.cloud()
        one, _ = encoder(points[:1], coors[:1])
        many, _ = encoder(points[:1].expand(7, -1), coors[:1].expand(7, -1))
        torch.testing.assert_close(one, many)

    def test_every_parameter_gets_a_gradient(self):
        encoder = self.encoder().train()
        encoder(*self.cloud())[0].square().sum().backward()
        assert all(p.grad.isfinite().all() for p in encoder.parameters())

    @pytest.mark.parametrize(("cluster", "centre"), [(True, False), (False, True), (False, False)])
    def test_channels(self, cluster, centre):
        encoder = self.encoder(with_cluster_center=cluster, with_voxel_center=centre)
        assert encoder.vfe_layers[0].linear.in_features == 5 + 3 * (cluster + centre)
        assert encoder(*self.cloud())[0].shape[1] == encoder.out_channels == 6

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda p, c: (p[:, 1:], c), r"points of the shape \(N, 5\)"),
            (lambda p, c: (p, c[1:]), r"per point, \(300, 4\), got \(299, 4\)"),
            (lambda p, c: (p, c.float()), r"integers .* of torch\.float32"),
            (lambda p, c: (p / 0, c), "NaN or infinite numbers in 300 of 300 rows"),
        ],
    )
    def test_bad_input(self, change, message):
        with pytest.raises(ValueError, match=message):
            self.encoder()(*change(*self.cloud()))


def test_parameters_of_the_published_network():
    with torch.device("meta"):
        modules = DynamicVFE(), FlatFormer("waymo")
    assert [sum(p.numel() for p in m.parameters()) for m in modules] == [17_472, 1_059_840]
    layer = modules[1].blocks[0][0]
    assert sum(p.numel() for p in layer.parameters()) == 132_480
    state = {f"middle_encoder.{k}": v for k, v in modules[1].state_dict().items()}
    assert FlatFormer.variant_of_weights(state) == "waymo"


def test_built_by_the_toolboxes_registry():
    from mmengine.registry import MODELS as ROOT

    encoder = ROOT.build({"type": "mmeffvit.FlatFormer", "arch": TINY, "grid_size": (20, 30)})
    assert isinstance(encoder, FlatFormer)
    assert encoder(torch.zeros(1, 18), torch.tensor([[0, 0, 29, 19]]), 1).shape == (1, 18, 30, 20)
    assert MODELS.get("DynamicVFE") is DynamicVFE
