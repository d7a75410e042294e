"""kMaX-DeepLab without a toolbox: network, matching, losses, results."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from mmeffvit.models.heads import kmax
from mmeffvit.models.heads.kmax import criterion as losses
from mmeffvit.models.heads.kmax.keys import convert_key
from mmeffvit.models.heads.kmax.pixel_decoder import AxialAttention2d, Fuse, PixelDecoder
from mmeffvit.models.heads.kmax.targets import Targets, sample_pixels, unit_targets
from mmeffvit.testing import check_golden
from mmeffvit.testing.families import FAMILIES
from mmeffvit.testing.golden import golden_weights

GOLDEN = Path(__file__).parents[2] / "data" / "golden" / "kmax.npz"
CHANNELS = (8, 12, 16, 20)
SMALL = {
    "num_classes": 5,
    "num_queries": 7,
    "pixel_decoder": {"depths": (1, 1, 1, 1), "widths": (8, 8, 8, 4)},
    "decoder": {
        "depths": (1, 1, 1),
        "embed_dims": 32,
        "mask_dims": 16,
        "ffn_dims": 24,
        "num_heads": 4,
    },
    "semantic_options": {"dim": 16, "skip_dims": (8, 4)},
}
CITYSCAPES = {
    "num_classes": 19,
    "num_queries": 256,
    "semantic": "light",
    "pixel_decoder": {
        "depths": (1, 5, 1, 1, 1),
        "widths": (512, 256, 128, 64, 32),
        "kinds": ("axial", "axial", "bottleneck", "bottleneck", "bottleneck"),
    },
}


def small(**options):
    torch.manual_seed(0)
    return kmax.KMaX(CHANNELS, **{**SMALL, **options})


def maps(height, width, batch=2, channels=CHANNELS):
    torch.manual_seed(1)
    return [
        torch.randn(batch, c, math.ceil(height / s), math.ceil(width / s))
        for c, s in zip(channels, (4, 8, 16, 32))
    ]


def test_golden():
    errors = check_golden(GOLDEN)
    assert max(errors.values()) < FAMILIES["kmax"].tolerance
    # whole numbers: matching, targets, results
    for name in ("matcher/0/query", "matcher/1/gt", "processed_targets/labels"):
        assert errors[f"loss/{name}"] == 0
    assert errors["pp/panoptic_seg"] == errors["pp/inst_masks"] == 0


def test_every_official_key_has_a_name_and_others_are_refused():
    weights = golden_weights(GOLDEN)
    names = {convert_key(key) for key in weights}
    assert len(names) == len(weights)
    whole = {f"sem_seg_head.{key}": value for key, value in weights.items()}
    whole["backbone.stem.conv1.weight"] = torch.zeros(1)
    assert kmax.convert_head(whole).keys() == names
    with pytest.raises(ValueError, match=r"not known: predictor\._other\.weight"):
        kmax.convert_head({**weights, "predictor._other.weight": torch.zeros(1)})
    light = "predictor._auxiliary_semantic_predictor.2.conv.bias"
    assert convert_key(light) == "semantic.classes.bias"


@pytest.mark.parametrize(
    ("channels", "strides", "options", "expected"),
    [
        ((256, 512, 1024, 2048), (4, 8, 16, 32), {}, (21_151_040, 11_921_048, 15_856_742)),
        (
            (256, 512, 1024, 2048),
            (4, 8, 16, 32),
            {"num_classes": 150},
            (21_151_040, 11_951_631, 15_861_111),
        ),
        ((96, 192, 384, 768), (4, 8, 16, 32), {}, (21_197_440, 11_921_048, 6_328_422)),
        ((128, 256, 512, 1024), (4, 8, 16, 32), {}, (22_027_840, 11_921_048, 8_234_086)),
        ((192, 384, 768, 1536), (4, 8, 16, 32), {}, (23_688_640, 11_921_048, 12_045_414)),
        # stem and first stage have one stride: the stem is coarser
        (
            (64, 256, 512, 1024, 2048),
            (4, 4, 8, 16, 32),
            CITYSCAPES,
            (21_170_240, 11_712_506, 584_979),
        ),
        (
            (192, 192, 384, 768, 1536),
            (2, 4, 8, 16, 32),
            CITYSCAPES,
            (23_722_560, 11_712_506, 440_083),
        ),
    ],
)
def test_parameters_are_those_of_the_authors(channels, strides, options, expected):
    with torch.device("meta"):
        network = kmax.KMaX(channels, strides, **options)
    parts = (network.pixel_decoder, network.decoder, network.semantic)
    assert tuple(sum(p.numel() for p in part.parameters()) for part in parts) == expected


@pytest.mark.parametrize(("height", "width"), [(64, 96), (65, 90)])
def test_any_size_and_every_parameter_learns(height, width):
    network = small()
    # what starts with nothing has no gradient behind it
    for name, parameter in network.named_parameters():
        if name.endswith("norm.weight"):
            torch.nn.init.ones_(parameter)
    output = network(maps(height, width))
    size = (math.ceil(height / 4), math.ceil(width / 4))
    assert output.final.mask_logits.shape == (2, 7, *size)
    assert output.semantic.shape == (2, 6, *size)
    assert [p.embeddings.shape for p in output.layers] == [(2, 16, *size)] * 3
    segments = [kmax.Segments(torch.tensor([1, 4]), torch.zeros(2, *size, dtype=torch.bool))] * 2
    segments[0].masks[0, :9, :5] = True
    segments[0].masks[1, 9:, :] = True
    sum(losses.KMaXCriterion(num_samples=50)(output, segments).values()).backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_maps_may_come_in_any_order_and_layers_only_when_asked():
    network = small().eval()
    feats = maps(33, 40)
    other = kmax.KMaX(CHANNELS[::-1], (32, 16, 8, 4), **SMALL).eval()
    other.load_state_dict(network.state_dict())
    with torch.no_grad():
        ours, theirs = network(feats), other(feats[::-1])
        all_of_it = network(feats, with_layers=True)
    assert torch.equal(ours.final.mask_logits, theirs.final.mask_logits)
    assert torch.equal(ours.final.class_logits, all_of_it.final.class_logits)
    assert (len(ours.layers), ours.semantic, len(all_of_it.layers)) == (0, None, 3)


def test_axial_attention_written_out():
    """Rows and columns of a rectangular map, pixel by pixel."""
    torch.manual_seed(0)
    axial = AxialAttention2d(6, 8).eval()
    for module in axial.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias)
    x = torch.randn(2, 6, 3, 5)

    def bn(norm, values):
        scale = norm.weight / (norm.running_var + 1e-3).sqrt()
        return values * scale + norm.bias - norm.running_mean * scale

    def line(layer, z):  # (L, C)
        z = bn(layer.qkv_norm, z @ layer.qkv.weight[..., 0].T)
        out = torch.zeros(len(z), 16)
        q, k, v = z[:, :8], z[:, 8:16], z[:, 16:]
        for i in range(len(z)):
            both = torch.zeros(32)
            for head in range(8):
                logits = []
                for m in range(len(z)):
                    a, b = q[i, head], k[m, head]
                    row = m - i + 254
                    three = (a * b, a * layer.query_table.weight[row, 0])
                    three = torch.stack((*three, b * layer.key_table.weight[row, 0]))
                    norm, at = layer.logit_norm, torch.tensor([head, 8 + head, 16 + head])
                    scale = norm.weight[at] / (norm.running_var[at] + 1e-3).sqrt()
                    logits.append(
                        (three * scale + norm.bias[at] - norm.running_mean[at] * scale).sum()
                    )
                p = torch.stack(logits).softmax(0)
                own = slice(2 * head, 2 * head + 2)
                both[own] = p @ v[:, own]
                rows = torch.arange(len(z)) - i + 254
                both[16:][own] = p @ layer.value_table.weight[rows]
            both = bn(layer.out_norm, both)
            out[i] = both[:16] + both[16:]
        return out

    with torch.no_grad():
        expected = torch.zeros(2, 16, 3, 5)
        for b in range(2):
            for column in range(5):
                expected[b, :, :, column] = line(axial.height, x[b, :, :, column].T).T
            for row in range(3):
                expected[b, :, row] = line(axial.width, expected[b, :, row].T.clone()).T
        torch.testing.assert_close(axial(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("width", "align_corners"), [(4, False), (5, True)])
def test_corners_meet_where_the_coarse_width_is_odd(width, align_corners):
    fuse = Fuse(6, 6, 6)
    low, high = torch.randn(1, 6, 4, width), torch.randn(1, 6, 7, 9)
    expected = F.interpolate(low, (7, 9), mode="bilinear", align_corners=align_corners) + high
    assert torch.equal(fuse(low, high), expected)


def test_autocast():
    network = small()
    feats = maps(33, 40)
    with torch.no_grad():
        expected = network(feats).final
    with torch.autocast("cpu", torch.bfloat16):
        output = network(feats)
        value = sum(losses.KMaXCriterion(num_samples=20)(output, truth(9, 10)).values())
    value.backward()
    assert value.dtype == torch.float32
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)
    error = (output.final.mask_logits.float() - expected.mask_logits).abs().mean()
    assert error < 0.1 * expected.mask_logits.abs().mean() + 0.02


def truth(height, width, overlap=False):
    """Two images: three segments with void beside them, and none at all."""
    masks = torch.zeros(3, height, width, dtype=torch.bool)
    masks[0, :3, :4] = True
    masks[1, 3:, 2:] = True
    masks[2, :, 7:9] = True
    if not overlap:
        masks[2] &= ~masks[:2].any(0)
    none = torch.zeros(0, dtype=torch.long)
    empty = kmax.Segments(none, torch.zeros(0, height, width, dtype=torch.bool))
    return [kmax.Segments(torch.tensor([4, 0, 4]), masks), empty]


def prediction(height=5, width=9, queries=6, classes=5):
    torch.manual_seed(0)
    return kmax.Prediction(
        torch.randn(2, queries, classes + 1),
        3 * torch.randn(2, queries, height, width),
        F.normalize(torch.randn(2, 4, height, width), dim=1),
    )


def test_matching_is_the_best_of_all():
    """Dice of shares on labelled pixels, times the probability of the class."""
    from itertools import permutations

    said, segments = prediction(), truth(5, 9)[0]
    shares = said.mask_logits[0].softmax(0) * segments.masks.any(0)
    quality = torch.zeros(6, 3)
    for n in range(6):
        for g in range(3):
            mask = segments.masks[g].float()
            dice = (shares[n] * mask).sum() / ((shares[n].sum() + mask.sum()) / 2 + 1e-5)
            quality[n, g] = dice * said.class_logits[0, n].softmax(0)[segments.labels[g]]
    best = max(permutations(range(6), 3), key=lambda p: sum(quality[n, g] for g, n in enumerate(p)))
    found = kmax.match(said.class_logits[0], said.mask_logits[0], segments)
    assert dict(zip(found.segments.tolist(), found.queries.tolist())) == dict(enumerate(best))
    product = found.mask_quality * found.class_quality
    torch.testing.assert_close(product, quality[found.queries, found.segments])


def test_targets_where_segments_overlap():
    said, segments = prediction(), truth(5, 9, overlap=True)
    targets = kmax.make_targets(said, segments)
    found = kmax.match(said.class_logits[0], said.mask_logits[0], segments[0])
    covered = segments[0].masks.sum(0)
    assert (covered == 2).any()
    assert torch.equal(targets.void[0], covered == 0)
    for n, g in zip(found.queries.tolist(), found.segments.tolist()):
        expected = segments[0].masks[g] / covered.clamp_min(1)
        torch.testing.assert_close(targets.masks[0, n], expected)
    # nobody is there: all weight on what nothing covers, masks do not count
    assert targets.void[1].all()
    assert (targets.labels[1] == 5).all()
    assert not targets.mask_weights[1].any()
    shares = said.mask_logits[1].softmax(0).sum((1, 2))
    torch.testing.assert_close(targets.class_weights[1], shares / (shares + 1e-5))
    assert (targets.semantic[1] == -1).all()
    assert (targets.inverse_area[1] == 45).all()
    other = next(n for n in range(6) if n not in found.queries.tolist())
    shares = said.mask_logits[0].softmax(0)[other]
    expected = (shares * targets.void[0]).sum() / (shares.sum() + 1e-5)
    torch.testing.assert_close(targets.class_weights[0, other], expected)


def test_weights_have_a_floor():
    said, segments = prediction(), truth(5, 9)[:1]
    said.class_logits[..., :5] = -60.0
    said.mask_logits[:, :, :] = -60.0
    said.mask_logits[:, 5] = 60.0
    one = kmax.Prediction(*(getattr(said, n)[:1] for n in ("class_logits", "mask_logits")), None)
    targets = kmax.make_targets(one, segments)
    matched = targets.labels[0] != 5
    assert (targets.mask_weights[0, matched] == torch.tensor(1e-5)).all()
    assert targets.class_weights.min() == torch.tensor(1e-5)


def test_losses_written_out():
    said, segments = prediction(), truth(5, 9, overlap=True)
    t = kmax.make_targets(said, segments)
    ce, mask, dice = [], [], []
    for b in range(2):
        entries = []
        for n in range(6):
            balance = 0.25 if t.labels[b, n] == 5 else 0.75
            p = said.class_logits[b, n].softmax(0)[t.labels[b, n]]
            entries.append(-p.log() * balance * t.class_weights[b, n])
        ce.append(sum(entries) / max(1, sum(e != 0 for e in entries)))
        entries = []
        for y in range(5):
            for x in range(9):
                if not t.void[b, y, x]:
                    log = said.mask_logits[b, :, y, x].log_softmax(0)
                    entries.append(-(t.masks[b, :, y, x] * log).sum())
        mask.append(sum(entries, torch.tensor(0.0)) / max(1, len(entries)))
        total = torch.tensor(0.0)
        shares = said.mask_logits[b].softmax(0) * ~t.void[b]
        for n in range(6):
            both = 2 * (shares[n] * t.masks[b, n]).sum() + 1
            total += (1 - both / (shares[n].sum() + t.masks[b, n].sum() + 1)) * t.mask_weights[b, n]
        dice.append(total * 0.75 / 6)
    torch.testing.assert_close(losses.class_loss(said.class_logits, t), sum(ce) / 2)
    torch.testing.assert_close(losses.mask_loss(said.mask_logits, t), sum(mask) / 2)
    torch.testing.assert_close(losses.dice_loss(said.mask_logits, t), sum(dice) / 2)

    pairs = []
    for b in range(2):
        pixels = said.embeddings[b].flatten(1)
        target, entries = t.masks[b].flatten(1), []
        for j in range(45):
            log = (pixels.T @ pixels[:, j] / 0.3).log_softmax(0)
            same = target.T @ target[:, j]
            entries.append(-(same / same.sum().clamp_min(1) * log).sum())
        entries = [e for e in entries if e != 0]
        pairs.append(sum(entries, torch.tensor(0.0)) / max(1, len(entries)))
    found = losses.KMaXCriterion(num_samples=None).pixel_loss(said.embeddings, t)
    torch.testing.assert_close(found, sum(pairs) / 2)

    logits = torch.randn(2, 6, 2, 4)  # every 4th row, every 2nd column
    labels = t.semantic[:, ::4, :8:2]
    kept = labels[0] >= 0
    expected = F.cross_entropy(logits[0].flatten(1).T, labels[0].flatten(), ignore_index=-1)
    found = losses.KMaXCriterion(num_semantic_samples=None).of_semantics(logits, t)
    assert kept.any()
    torch.testing.assert_close(found, expected / 2)  # the other image has no labels


def test_layers_share_the_matching_of_the_last_prediction():
    said, segments = prediction(), truth(5, 9)
    torch.manual_seed(3)
    layer = kmax.Prediction(
        torch.randn(2, 6, 6), torch.randn(2, 6, 5, 9), F.normalize(torch.randn(2, 4, 5, 9), dim=1)
    )
    output = kmax.KMaXOutput(said, [layer])
    shared = losses.KMaXCriterion(num_samples=None)(output, segments)
    own = losses.KMaXCriterion(num_samples=None, share_matching=False)(output, segments)
    targets = kmax.make_targets(said, segments)
    torch.testing.assert_close(
        shared["d0.loss_ce"], 3 * losses.class_loss(layer.class_logits, targets)
    )
    torch.testing.assert_close(own["loss_ce"], shared["loss_ce"])
    assert not torch.isclose(own["d0.loss_ce"], shared["d0.loss_ce"])


def test_no_gradient_through_targets():
    said, segments = prediction(), truth(5, 9)
    for tensor in (said.class_logits, said.mask_logits, said.embeddings):
        tensor.requires_grad_()
    targets = kmax.make_targets(said, segments)
    assert not any(getattr(targets, name).requires_grad for name in Targets.__dataclass_fields__)


def test_small_segments_are_drawn_more_often():
    area = torch.tensor([[100.0] * 2 + [1.0] * 18]).expand(2000, -1)
    void = torch.zeros_like(area, dtype=torch.bool)
    void[:, 1] = True
    torch.manual_seed(0)
    first = sample_pixels(area, void, torch.rand_like(area), 1.0)
    assert (first[:, -1] == 1).all()  # of no segment: last
    share = (first[:, 0] == 0).float().mean()
    assert share == pytest.approx(100 / 118, abs=0.02)
    columns = unit_targets(torch.rand(1, 3, 4)).sum(1)
    assert (columns <= 1 + 1e-6).all()


def test_one_pixel_of_stuff_and_a_strict_overlap():
    """Segments keep more than 0.8 of their pixels; stuff of one class is one segment."""
    logits = torch.full((4, 6), -20.0)
    for query, (label, value) in enumerate([(0, 9.0), (3, 8.0), (3, 7.0), (1, 6.0)]):
        logits[query, label] = value - 20
    logits[:, 5] = -22.0
    masks = torch.full((4, 1, 20), -20.0)
    masks[0, 0, :5] = 20
    masks[1, 0, 5:10] = 20
    masks[2, 0, 10:15] = 20
    masks[3, 0, 15:] = 20
    rules = kmax.PanopticRules(pixel_threshold=0.3)
    found = kmax.panoptic(logits, masks, 2, rules)
    assert found.ids[0].tolist() == [1] * 5 + [2] * 10 + [3] * 5
    assert found.labels == [0, 3, 1]
    # one pixel of five is shared half and half: the later segment keeps 4 of 5, which is not more
    masks[3, 0, 4] = masks[0, 0, 4] = 20
    masks[3, 0, 19] = -40
    masks[1, 0, 19] = 20
    found = kmax.panoptic(logits, masks, 2, rules)
    assert found.labels == [3, 0]
    assert found.ids[0, 15:19].tolist() == [0] * 4
    # classes that are not sure enough
    assert kmax.panoptic(logits - logits, masks, 2, rules).labels == []


def test_semantic_and_instances_by_hand():
    logits = torch.log(torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]]))
    masks = torch.log(torch.tensor([[[0.9, 0.5]], [[0.1, 0.5]]]))
    scores = kmax.semantic(logits, masks)
    expected = [[[0.9 * 0.6 + 0.1 * 0.1, 0.35]], [[0.9 * 0.3 + 0.1 * 0.2, 0.25]]]
    torch.testing.assert_close(scores, torch.tensor(expected))
    found, labels, areas = kmax.instances(logits, masks, 1, max_per_image=3)
    assert labels.tolist() == [0]  # classes 1 are stuff, and only three pairs are looked at
    torch.testing.assert_close(found, torch.tensor([0.6 * 0.7]))
    assert areas.tolist() == [[[True, True]]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strides": (4, 8)}, "one entry for each map"),
        ({"num_queries": 0}, "must be at least 1"),
        ({"semantic": "lihgt"}, "did you mean 'light'"),
        ({"pixel_decoder": {"depths": (1, 1)}}, "of one length"),
        ({"pixel_decoder": {"kinds": ("axial", "window", "axial", "axial")}}, "'bottleneck'"),
        ({"decoder": {"embed_dims": 30}}, r"2 \* num_heads divides"),
    ],
)
def test_what_does_not_fit_is_a_sentence(options, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        kmax.KMaX(CHANNELS, **options)


def test_maps_that_do_not_fit():
    with pytest.raises(ValueError, match="made for 4 maps, got 2"):
        small()(maps(64, 64)[:2])
    with pytest.raises(ValueError, match="positions for 255"):
        PixelDecoder((2, 2, 2), (1, 1, 1), (8, 8, 8), ("axial",) * 3)(
            [torch.zeros(1, 2, 1, 256)] * 3
        )
    with pytest.raises(ValueError, match="no loss 'dise'; did you mean 'dice'"):
        losses.KMaXCriterion({"dise": 1.0})
