"""Training at several resolutions: the loss against its formula, the config, a few steps."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.structures import DataSample

from mmeffvit.classification.multi_resolution import consistency_loss
from tests.configs.common import check_rest_builds, load
from tests.models.backbones.tiny import ARCHS

ARCH = ARCHS["resformer"]
CONFIG = "configs/resformer/resformer-small_8xb128-mr_in1k.py"


@pytest.fixture(autouse=True)
def _mmpretrain_scope():
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        yield


def build(**options):
    torch.manual_seed(0)
    return MODELS.build(
        {
            "type": "mmeffvit.MultiResolutionClassifier",
            "backbone": {"type": "mmeffvit.ResFormer", "arch": ARCH, "out_type": "class_token"},
            "neck": {"type": "GlobalAveragePooling"},
            "head": {
                "type": "LinearClsHead",
                "num_classes": 3,
                "in_channels": 16,
                "loss": {"type": "CrossEntropyLoss"},
            },
            **options,
        }
    )


def samples(*labels):
    return [DataSample().set_gt_label(label) for label in labels]


def test_distance_of_features():
    student, teacher = torch.randn(2, 3, 8, dtype=torch.float64, requires_grad=True)
    loss = consistency_loss(student, teacher)
    centred = teacher - teacher.mean(1, keepdim=True)
    target = centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt()
    distance = (student - target).abs()
    expected = torch.where(distance < 1, distance.square() / 2, distance - 0.5).mean()
    torch.testing.assert_close(loss, expected.detach())
    (gradient,) = torch.autograd.grad(loss, student, retain_graph=True)
    torch.testing.assert_close(gradient, (student - target).clamp(-1, 1).detach() / 24)
    with pytest.raises(RuntimeError, match="appears to not have been used"):
        torch.autograd.grad(loss, teacher)


def test_loss_is_the_formula():
    model = build(resolutions=(64, 48, 32), consistency=0.7)
    images, labels = torch.randn(4, 3, 64, 64), (0, 2, 1, 2)
    losses = model.loss(images, samples(*labels))
    assert losses.keys() == {"loss", "loss_consistency"}
    features, entropies = [], []
    for side in (64, 48, 32):
        smaller = images
        if side < 64:
            smaller = F.interpolate(images, (side, side), mode="bicubic", antialias=True)
        features.append(model.backbone(smaller)[0][:, :, 0, 0])
        logits = model.head.fc(features[-1]).log_softmax(1)
        entropies.append(-logits[range(4), list(labels)].mean())
    torch.testing.assert_close(losses["loss"], sum(entropies) / 3)
    distances = [consistency_loss(features[i + 1], features[i]) for i in range(2)]
    torch.testing.assert_close(losses["loss_consistency"], 0.7 * sum(distances) / 3)


def test_one_resolution_is_the_plain_classifier():
    model = build(resolutions=(48,))
    images = torch.randn(2, 3, 48, 48)
    losses = model.loss(images, samples(0, 1))
    assert losses.keys() == {"loss"}
    expected = model.head.loss(model.extract_feat(images), samples(0, 1))["loss"]
    torch.testing.assert_close(losses["loss"], expected)


def test_a_few_steps_learn():
    """Bright and dark images, two classes, at two resolutions; with mixed labels on the way."""
    model = build(
        resolutions=(64, 32),
        train_cfg={"augments": [{"type": "Mixup", "alpha": 0.8}]},
        data_preprocessor={"type": "ClsDataPreprocessor", "num_classes": 3, "to_onehot": True},
    ).train()
    wrapper = build_optim_wrapper(
        model, {"optimizer": {"type": "AdamW", "lr": 3e-3, "weight_decay": 0.05}}
    )
    before = {name: p.clone() for name, p in model.named_parameters()}
    images = torch.stack([torch.full((3, 64, 64), float(i % 2) * 2 - 1) for i in range(8)])
    batch = {"inputs": images + 0.3 * torch.randn(8, 3, 64, 64)}
    logs = []
    for _ in range(15):
        batch["data_samples"] = samples(*[i % 2 for i in range(8)])
        logs.append(model.train_step(dict(batch), wrapper))
    # nearly nothing at the start, where all predictions are alike: it need not fall
    assert all(log["loss_consistency"] > 0 for log in logs)
    still = {name for name, p in model.named_parameters() if torch.equal(before[name], p)}
    # the class token does not see the last convolution of values
    assert still == {f"backbone.blocks.1.mixer.lepe.{kind}" for kind in ("weight", "bias")}
    model.eval()
    predictions = model.predict(batch["inputs"], samples(*[0] * 8))
    assert [int(p.pred_label) for p in predictions] == [i % 2 for i in range(8)]


def test_impossible_resolutions():
    with pytest.raises(ValueError, match="the largest first"):
        build(resolutions=(128, 160))


def test_config():
    cfg = load(CONFIG)
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    assert sum(p.numel() for p in model.parameters()) == 21_986_536
    assert model.resolutions == (224, 160, 128)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    names = {id(p): name for name, p in model.named_parameters()}
    decays = {
        names[id(p)]: group["weight_decay"]
        for group in wrapper.optimizer.param_groups
        for p in group["params"]
    }
    assert {group["lr"] for group in wrapper.optimizer.param_groups} == {1e-3}
    assert decays["backbone.blocks.0.mixer.qkv.weight"] == 0.05
    for name in (
        "position.conv.weight",
        "blocks.3.mixer.lepe.weight",
        "extra_tokens.weight",
        "blocks.3.norm1.weight",
    ):
        assert decays[f"backbone.{name}"] == 0, name
    check_rest_builds(cfg)
