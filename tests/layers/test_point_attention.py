"""The image mixers' attentions on points."""

import copy

import pytest
import torch
from torch import nn

from mmeffvit.layers import GatedSoftmaxMixer, MapContext, RALAMixer, SECMixer
from mmeffvit.layers.points import (
    PointGatedSoftmaxMixer,
    PointLevel,
    PointRALAMixer,
    PointSECMixer,
)
from mmeffvit.models.points import ConDaFormer
from mmeffvit.ops import (
    rank_augmented_linear_attention,
    rotary_softmax_attention,
    rotary_table_2d,
    sec_attention,
)
from mmeffvit.ops.points import batch_to_offset, unique_rows
from mmeffvit.testing import relative_rms_error

HEADS, HEAD_DIM = 2, 8
DIM = HEADS * HEAD_DIM
MIXERS = {
    "sec": (PointSECMixer, {"num_clusters": 3}),
    "sec-linear": (PointSECMixer, {"num_clusters": 2, "tokens_per_cluster": 9}),
    "plain": (PointSECMixer, {}),
    "rala": (PointRALAMixer, {}),
    "softmax": (PointGatedSoftmaxMixer, {}),
}
mixers = pytest.mark.parametrize("name", MIXERS)
positions = pytest.mark.parametrize("position", ["rotary", "learned", None])


def build(name, position="rotary", **kwargs):
    torch.manual_seed(0)
    cls, options = MIXERS[name]
    mixer = cls(DIM, HEADS, position=position, **options, **kwargs)
    # the published code's small kernels would hide the local branch
    nn.init.normal_(mixer.lepe.weight, std=0.2)
    return mixer


def level_of(cells, stride=1, seed=0):
    """Points somewhere in their cells (N, 4)."""
    generator = torch.Generator().manual_seed(seed)
    xyz = (cells[:, 1:] + torch.rand(len(cells), 3, generator=generator)) * stride
    return PointLevel(xyz, cells, batch_to_offset(cells[:, 0]), torch.ones(len(cells)), stride)


def some_level(counts=(31, 1, 14), stride=1):
    generator = torch.Generator().manual_seed(1)
    cells = []
    for sample, count in enumerate(counts):
        rows = unique_rows(torch.randint(0, 5, (8 * count, 3), generator=generator)).rows
        rows = rows[torch.randperm(len(rows), generator=generator)[:count]]
        cells.append(torch.cat((torch.full((len(rows), 1), sample), rows), dim=1))
    return level_of(torch.cat(cells), stride)


def rows_of(level, rows):
    cells = level.cells[rows]
    return PointLevel(
        level.xyz[rows], cells, batch_to_offset(cells[:, 0]), level.counts[rows], level.stride
    )


@pytest.fixture(scope="module")
def tokens():
    return torch.randn(46, DIM, generator=torch.Generator().manual_seed(2))


class TestAgainstImages:
    """Points on the whole numbers of the plane z = 0 are the pixels of a map."""

    HEIGHT, WIDTH = 5, 7

    @pytest.fixture(scope="class")
    def plane(self):
        y, x = torch.arange(self.HEIGHT), torch.arange(self.WIDTH)
        cells = torch.cartesian_prod(torch.zeros(1, dtype=torch.int64), x[:1], y, x)
        xyz = cells[:, [3, 2, 1]]
        cells = torch.cat((cells[:, :1], xyz), dim=1)
        return PointLevel(xyz.float(), cells, torch.tensor([35]), torch.ones(35))

    @pytest.mark.parametrize(
        ("name", "op"),
        [
            ("sec", lambda q, k, v, _: sec_attention(q, k, v, 3)),
            ("sec-linear", lambda q, k, v, _: sec_attention(q, k, v, 4)),
            ("rala", rank_augmented_linear_attention),
            ("softmax", rotary_softmax_attention),
        ],
    )
    def test_attention_is_the_operators(self, plane, name, op):
        q, k, v = torch.randn(3, 35, HEADS, HEAD_DIM).unbind()
        straight = torch.tensor([1.0, 0.0]).expand(35, HEAD_DIM // 2, 2)
        expected = op(q[None], k[None], v[None], straight)[0]
        assert torch.equal(build(name, None).attend(q, k, v, plane), expected)

    @pytest.mark.parametrize(
        ("name", "image"),
        [
            ("sec", SECMixer(DIM, HEADS, num_clusters=3)),
            ("rala", RALAMixer(DIM, HEADS)),
            ("softmax", GatedSoftmaxMixer(DIM, HEADS)),
        ],
    )
    def test_module_is_the_image_mixer(self, plane, name, image):
        """Projections, order of channels, gate and local branch, with the image's weights."""
        point = build(name, None)
        straight = torch.tensor([1.0, 0.0]).expand(35, HEAD_DIM // 2, 2)
        x = torch.randn(1, DIM, self.HEIGHT, self.WIDTH)
        context = MapContext.of(x)
        context.structure(("rotary_2d", HEAD_DIM), lambda: straight)
        with torch.no_grad():
            for part in ("qkv", "proj"):
                source, target = getattr(image, part), getattr(point, part)
                target.weight.copy_(source.weight.flatten(1))
                target.bias.copy_(source.bias)
            image.lepe.bias.zero_()
            image.lepe.weight.zero_()
            # of the kernel (C, x, y, z, 1), what lies in the plane, at the middle of 5x5
            image.lepe.weight[:, 0, 1:4, 1:4] = point.lepe.weight[:, :, :, 1, 0].transpose(1, 2)
            expected = image(x, context).flatten(2)[0].T
            out = point(x.flatten(2)[0].T, plane)
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)

    def test_rotary_table_without_height_is_the_map_s(self, plane):
        """Of 8 pairs x takes 3, y 3 and z 2; a map of as many has the same."""
        table = plane.rotary_3d(16, base=10000.0)
        expected = rotary_table_2d(self.HEIGHT, self.WIDTH, 12)
        torch.testing.assert_close(table[:, :3], expected[:, 3:])  # x are columns
        torch.testing.assert_close(table[:, 3:6], expected[:, :3])
        assert torch.equal(table[:, 6:], torch.tensor([1.0, 0.0]).expand(35, 2, 2))


@mixers
@positions
def test_samples_do_not_mix(name, position, tokens):
    level, mixer = some_level(), build(name, position)
    out = mixer(tokens, level)
    assert out.shape == tokens.shape
    for rows in level.samples:
        alone = rows_of(level, torch.arange(46)[rows])
        alone.cells[:, 0] = 0
        alone.offset = torch.tensor([len(alone)])
        torch.testing.assert_close(mixer(tokens[rows], alone), out[rows], rtol=1e-5, atol=1e-6)


@mixers
@positions
def test_order_of_points_does_not_matter(name, position, tokens):
    level, mixer = some_level(), build(name, position)
    shuffled = torch.cat((torch.randperm(31), torch.tensor([31]), 32 + torch.randperm(14)))
    out = mixer(tokens[shuffled], rows_of(level, shuffled))
    torch.testing.assert_close(out, mixer(tokens, level)[shuffled], rtol=1e-4, atol=1e-5)


@mixers
@positions
def test_translation_changes_nothing(name, position, tokens):
    level, mixer = some_level(stride=4), build(name, position)
    away = rows_of(level, torch.arange(46))
    away.xyz = level.xyz + torch.tensor([400.0, -8000.0, 12.0])
    torch.testing.assert_close(mixer(tokens, away), mixer(tokens, level), rtol=1e-3, atol=1e-3)


@mixers
def test_positions_matter(name, tokens):
    level = some_level()
    outputs = [build(name, p)(tokens, level) for p in ("rotary", "learned", None)]
    assert all(relative_rms_error(outputs[i], outputs[2]) > 1e-3 for i in (0, 1))


def test_positions_are_in_cells_of_the_level():
    fine, coarse = some_level(), some_level(stride=4)
    torch.testing.assert_close(coarse.xyz, 4 * fine.xyz)
    torch.testing.assert_close(coarse.rotary_3d(8), fine.rotary_3d(8))
    torch.testing.assert_close(coarse.places, fine.places)
    assert fine.rotary_3d(8) is fine.rotary_3d(8)
    assert fine.rotary_3d(8, base=10.0) is not fine.rotary_3d(8)


def test_places_fill_the_cube_around_a_sample():
    level = some_level()
    for rows in level.samples:
        places, xyz = level.places[rows], level.xyz[rows]
        middle = (xyz.amin(0) + xyz.amax(0)) / 2
        half = max(float((xyz.amax(0) - xyz.amin(0)).max()), 1.0) / 2
        torch.testing.assert_close(places, (xyz - middle) / half)
        assert places.abs().max() <= 1 + 1e-6
    assert torch.equal(level.places[31], torch.zeros(3))  # the sample of one point


@mixers
@positions
def test_every_parameter_has_a_gradient(name, position, tokens):
    mixer, x = build(name, position), tokens.clone().requires_grad_()
    (mixer(x, some_level()) * torch.randn(46, DIM)).sum().backward()
    for key, p in [*mixer.named_parameters(), ("x", x)]:
        assert p.grad is not None, key
        assert p.grad.isfinite().all(), key
        assert p.grad.abs().max() > 0, key


@mixers
@pytest.mark.parametrize("position", ["rotary", "learned"])
def test_bfloat16_autocast(name, position, tokens):
    mixer, level = build(name, position), some_level()
    expected = copy.deepcopy(mixer).double()(tokens.double(), level)
    with torch.autocast("cpu", torch.bfloat16):
        out = mixer(tokens, level)
    out.float().square().sum().backward()
    assert out.dtype == torch.bfloat16
    assert relative_rms_error(out, expected) < 0.02
    assert all(p.grad.isfinite().all() for p in mixer.parameters())


@pytest.mark.parametrize("name", ["rala", "softmax"])
def test_float16_autocast_with_products_beyond_its_range(name, tokens):
    mixer = build(name)
    with torch.no_grad():
        mixer.qkv.weight[2 * DIM :] *= 600
        mixer.proj.weight *= 1e-3
        with torch.autocast("cpu", torch.float16):
            out = mixer(tokens, some_level())
        expected = copy.deepcopy(mixer).double()(tokens.double(), some_level())
    assert out.dtype == torch.float16
    assert relative_rms_error(out, expected) < 5e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"position": "sine"}, "'rotary', 'learned' or None, got 'sine'"),
        ({"num_heads": 4}, r"PointRALAMixer .*even number of channels, 6 or more, got 16 / 4"),
        ({"num_heads": 3}, "multiple of num_heads, got 16 and 3"),
        ({"implementation": "quick"}, "asks for implementation 'quick'"),
    ],
)
def test_what_is_not_possible(change, message, tokens):
    arguments = {"embed_dims": DIM, "num_heads": HEADS, **change}
    with pytest.raises(ValueError, match=message):
        PointRALAMixer(**arguments)(tokens, some_level())


def test_a_hybrid_network_trains():
    """Tri-plane at the finest level, then linear, clustered and plain attention."""
    arch = {
        "stem_dims": 16,
        "embed_dims": (48, 48, 48, 96),
        "depths": (2, 1, 1, 1),
        "decoder_dims": (48, 48, 48, 48),
        "decoder_depths": (0, 1, 0, 0),
        "window_size": 3,
        "quant_size": 0.25,
        "in_channels": 6,
        "voxel_size": 0.1,
    }
    tri_plane = {"type": "mmeffvit.TriPlaneMixer", "window_size": 3}
    rala = {"type": "mmeffvit.PointRALAMixer", "position": "learned"}
    sec = {"type": "mmeffvit.PointSECMixer", "num_clusters": 2, "tokens_per_cluster": 8}
    softmax = {"type": "mmeffvit.PointGatedSoftmaxMixer"}
    mixer = [tri_plane, rala, sec, softmax, sec, rala, tri_plane, tri_plane]
    torch.manual_seed(0)
    network = nn.ModuleList((ConDaFormer(arch, mixer=mixer, drop_path_rate=0.0), nn.Linear(48, 3)))
    cells = torch.cat((some_level((60, 52)).cells, torch.tensor([[1, 19, 17, 30]])))
    voxels = torch.cat((0.1 * (cells[:, 1:] + 0.5), torch.rand(len(cells), 3)), dim=1)
    labels = (cells[:, 1] % 3).long()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    losses = []
    for _ in range(4):
        loss = nn.functional.cross_entropy(network[1](network[0](voxels, cells)), labels)
        optimizer.zero_grad()
        loss.backward()
        if not losses:
            missing = [k for k, p in network.named_parameters() if p.grad is None]
            assert missing == []
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
