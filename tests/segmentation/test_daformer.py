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
    assert {"out/fused", "variant_/aspp/logits", "uda/loss_weighted"} <= errors.keys()
    assert max(errors.values()) < 1e-5


@pytest.mark.parametrize(
    ("fusion", "expected"), [("sepaspp", 3_712_275), ("aspp", 9_969_939), ("conv1", 530_707)]
)
def test_parameters_are_those_of_the_authors(fusion, expected):
    with torch.device("meta"):
        head = build(fusion=fusion)
    assert sum(p.numel() for p in head.parameters()) == expected


def small(**options):
    torch.manual_seed(0)
    return build(in_channels=[4, 6, 8], embed_dims=8, channels=8, num_classes=3, **options)


def test_any_size_and_every_parameter_learns():
    head = small().train()
    sizes = [(13, 18), (7, 9), (4, 5)]
    feats = [torch.randn(2, c, *size) for c, size in zip((4, 6, 8), sizes)]
    logits = head(feats)
    assert logits.shape == (2, 3, 13, 18)
    logits.square().sum().backward()
    assert [name for name, p in head.named_parameters() if not p.grad.any()] == []


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
    data, _ = samples(torch.rand(1, 1, 6, 8))
    with pytest.raises(ValueError, match="1 of 2 samples have a seg_weight"):
        small().loss_by_feat(torch.randn(2, 3, 6, 8), data)
