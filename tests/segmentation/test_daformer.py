"""DAFormer's head: the authors' numbers, sizes, and weights of pixels."""

from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS
from mmengine.structures import PixelData

from mmeffvit.testing import check_golden

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "daformer.npz"
CHANNELS = [64, 128, 320, 512]


def build(**options):
    config = {"type": "mmeffvit.DAFormerHead", "in_channels": CHANNELS, "num_classes": 19}
    return MODELS.build({**config, **options})


def test_golden():
    errors = check_golden(GOLDEN)
    variants = {f"variant_/{name}/logits" for name in ("aspp", "conv1", "isa", "bottleneck")}
    losses = {"uda/loss_plain", "uda/loss_weighted"}
    assert errors.keys() == {"out/logits", "out/fused"} | variants | losses
    assert max(errors.values()) < 1e-5


@pytest.mark.parametrize(
    ("fusion", "expected"),
    [
        ("sepaspp", 3_712_275),
        ("aspp", 9_969_939),
        ("isa", 1_058_579),
        ("conv1", 530_707),
        ("bottleneck", 3_163_155),
    ],
)
def test_parameters_are_those_of_the_authors(fusion, expected):
    with torch.device("meta"):
        head = build(fusion=fusion)
    assert sum(p.numel() for p in head.parameters()) == expected


def small(**options):
    torch.manual_seed(0)
    return build(in_channels=[4, 6, 8], embed_dims=8, channels=8, num_classes=3, **options)


BRANCHES = {"image_pool": True, "context": {"type": "Conv2d", "kernel_size": 1}}


def maps():
    """Of an image of 52 x 69 pixels, as a pyramid gives them."""
    sizes = [(13, 18), (7, 9), (4, 5)]
    return [torch.randn(2, c, *size) for c, size in zip((4, 6, 8), sizes)]


@pytest.mark.parametrize(
    "options",
    [{}, BRANCHES, {"fusion": "isa", "relation_channels": 6}, {"fusion": "bottleneck"}],
    ids=str,
)
def test_any_size_and_every_parameter_learns(options):
    head = small(**options).train()
    logits = head(maps())
    assert logits.shape == (2, 3, 13, 18)
    logits.square().sum().backward()
    assert [name for name, p in head.named_parameters() if not p.grad.any()] == []


def attend(relation, x, sees):
    """Attention of a map (1, C, H, W) pixel by pixel, to those that a pixel sees, (L, L)."""
    q, k, v = (
        layer(x)[0].flatten(1).T
        for layer in (relation.query_project, relation.key_project, relation.value_project)
    )
    logits = (q @ k.T / q.shape[1] ** 0.5).masked_fill(~sees, -torch.inf)
    return relation.output_project((logits.softmax(1) @ v).T.view(1, -1, *x.shape[-2:]))


@pytest.mark.parametrize("size", [(13, 18), (8, 16), (3, 9)])
def test_sparse_attention_pixel_by_pixel(size):
    head = small(fusion="isa", relation_channels=6).double().eval()
    for p in head.parameters():  # also what starts at zero
        torch.nn.init.normal_(p, std=0.5)
    joined = torch.randn(1, 24, *size, dtype=torch.float64)
    layer = head.fuse_layer
    found = layer(joined)
    # zeros on all sides; where their number is odd, one more after the map
    x = layer.in_conv(joined)
    (top, bottom), (left, right) = (
        {13: (1, 2), 18: (3, 3), 8: (0, 0), 16: (0, 0), 3: (2, 3), 9: (3, 4)}[n] for n in size
    )
    x = torch.nn.functional.pad(x, (left, right, top, bottom))
    grid = torch.meshgrid(*map(torch.arange, x.shape[-2:]), indexing="ij")
    y, column = (t.flatten() for t in grid)
    place, cell = y % 8 * 8 + column % 8, y // 8 * 100 + column // 8
    for relation, number in ((layer.global_relation, place), (layer.local_relation, cell)):
        x = attend(relation, x, number[:, None] == number)
    expected = x[..., top : top + size[0], left : left + size[1]]
    torch.testing.assert_close(found, expected)


def test_context_of_the_last_level_alone():
    """The last of three levels is seen at four times its size, which is not that of the first."""
    head = small(fusion="bottleneck").eval()
    seen = []
    context = head.embed_layers["2"][1]
    context.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    feats = maps()
    fused = head.fuse(feats)
    (x,) = seen
    assert x.shape == (2, 8, 16, 20)
    up = {"mode": "bilinear", "align_corners": False}
    last = torch.nn.functional.interpolate(feats[2], (16, 20), **up)
    torch.testing.assert_close(x, head.embed_layers["2"][0](last))
    levels = [head.embed_layers["0"](feats[0]), head.embed_layers["1"](feats[1]), context(x)]
    levels = [torch.nn.functional.interpolate(level, (13, 18), **up) for level in levels]
    torch.testing.assert_close(fused, head.fuse_layer(torch.cat(levels, 1)))


def test_branches_beside_the_dilated_ones():
    """The mean of the map first, then the other layer, as the authors have them."""
    layer = small(**BRANCHES, dilations=(1, 2)).eval().fuse_layer
    x = torch.randn(1, 24, 5, 7)
    joined = []
    layer.bottleneck.register_forward_pre_hook(lambda module, args: joined.append(args[0]))
    layer(x)
    mean, context, *dilated = joined[0].split(8, 1)
    pooled = layer.image_pool[1](x.mean((2, 3), keepdim=True))
    torch.testing.assert_close(mean, pooled.expand(-1, -1, 5, 7))
    torch.testing.assert_close(context, layer.context_layer(x))
    torch.testing.assert_close(dilated, layer.aspp_modules(x))


def samples(weights):
    from mmseg.structures import SegDataSample

    torch.manual_seed(1)
    labels = torch.randint(0, 3, (2, 1, 6, 8))
    labels[0, 0, :2] = 255
    found = [SegDataSample(gt_sem_seg=PixelData(data=label)) for label in labels]
    for sample, weight in zip(found, weights):
        sample.seg_weight = PixelData(data=weight)
    return found, labels[:, 0]


def test_loss_with_weights_written_out():
    """The mean is over all pixels, those without a label among them."""
    head = small()
    logits, weights = torch.randn(2, 3, 6, 8), torch.rand(2, 1, 6, 8)
    data, labels = samples(weights)
    total = 0.0
    for b in range(2):
        for y in range(6):
            for x in range(8):
                if labels[b, y, x] != 255:
                    log = logits[b, :, y, x].log_softmax(0)
                    total -= log[labels[b, y, x]] * weights[b, 0, y, x]
    loss = head.loss_by_feat(logits, data)["loss_ce"]
    torch.testing.assert_close(loss, total / (2 * 6 * 8))


def test_what_does_not_fit_is_a_sentence():
    with pytest.raises(ValueError, match="did you mean 'aspp'"):
        small(fusion="asp")
    with pytest.raises(ValueError, match="fusion='isa' has none; take 'sepaspp'"):
        small(fusion="isa", image_pool=True)
    data, _ = samples(torch.rand(1, 1, 6, 8))
    with pytest.raises(ValueError, match="1 of 2 samples have a seg_weight"):
        small().loss_by_feat(torch.randn(2, 3, 6, 8), data)
