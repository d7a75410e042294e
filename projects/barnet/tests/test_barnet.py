"""Bands of the spectrum, the metric, and the attention that BAR-Net builds on."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from scipy.fft import dctn

from mmeffvit.models import RMT
from mmeffvit.testing import small_arch
from mmeffvit.testing.families import FAMILIES
from mmeffvit.testing.golden import read_golden
from projects.barnet.barnet import (
    BandAttentionModulation,
    BARNet,
    BinaryAUC,
    dct2,
    equal_error_rate,
    idct2,
    roc_auc,
)
from projects.barnet.barnet.bands import band_map

GOLDEN = Path(__file__).parent / "data/barnet.npz"
CONFIGS = sorted(Path(__file__).resolve().parents[1].glob("configs/*.py"))
CPU = torch.device("cpu")


def test_building_blocks_equal_the_golden_file():
    """RMT's attention, which the file has under other names, and scipy's transform."""
    meta, tensors = read_golden(GOLDEN)
    options = meta["constructor"]
    height, width = tensors["op/masa_full/in"].shape[1:3]
    op = {**options, "init_value": options["initial_value"], "H": height, "W": width}
    renamed = {re.sub(r"(masa_\w+/in)$", r"\1/x", key): value for key, value in tensors.items()}
    outputs = FAMILIES["rmt"].operator_outputs({"op": op}, renamed)
    compared = set()
    for key, actual in outputs.items():
        name = re.sub(r"masa_full/in/mask$", "relpos/mask_full", key)
        name = re.sub(r"masa_\w+/in/", "relpos/", name)
        torch.testing.assert_close(actual, tensors[name], atol=2e-5, rtol=1e-5, msg=key)
        compared.add(name.removeprefix("op/"))
    tables = {f"relpos/{t}" for t in ("sin", "cos", "decay", "mask_h", "mask_w", "mask_full")}
    assert compared == {"masa_full/out", "masa_decomposed/out", *tables}
    spectrum = dct2(tensors["op/dct2/in"])
    torch.testing.assert_close(spectrum, tensors["op/dct2/out"], atol=1e-5, rtol=1e-5)
    back = idct2(tensors["op/dct2/out"])
    torch.testing.assert_close(back, tensors["op/idct2/out_of_dct2"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(5, 8), (1, 7), (13, 4)])
def test_transform_of_maps_that_are_not_square(size):
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    expected = torch.from_numpy(dctn(x.numpy(), axes=(2, 3), norm="ortho"))
    torch.testing.assert_close(dct2(x), expected)
    torch.testing.assert_close(idct2(expected), x)
    torch.testing.assert_close(dct2(x).square().sum(), x.square().sum())


def test_bands_are_anti_diagonals_of_relative_frequency():
    bands = band_map(4, 6, 16, CPU)
    for u in range(4):
        for v in range(6):
            # as twelfths, so that nothing is rounded
            assert bands[u, v] == 16 * (3 * u + 2 * v) // 24
    assert band_map(224, 200, 16, CPU).unique().tolist() == list(range(16))


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("size", [(7, 12), (2, 3), (32, 20)])
def test_starts_as_the_identity(size, adaptive):
    module = BandAttentionModulation(adaptive=adaptive)
    x = torch.randn(2, 3, *size)
    torch.testing.assert_close(module(x), x, atol=1e-5, rtol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(module(x), x, atol=1e-5, rtol=1e-5)
    module(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
    assert sum(p.numel() for p in module.parameters()) == 16 + 544 * adaptive


def test_bands_are_damped_one_by_one():
    module = BandAttentionModulation()
    with torch.no_grad():
        module.theta[1:] = -100
    # on 8 x 8 the first of 16 bands is the mean alone
    x = torch.randn(1, 2, 8, 8)
    expected = x.mean((2, 3), keepdim=True).expand_as(x)
    torch.testing.assert_close(module(x), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(module(expected), expected, atol=1e-5, rtol=1e-5)
    highest = idct2(torch.eye(64)[63].view(1, 1, 8, 8))
    assert module(highest).abs().max() < 1e-6
    a, b = torch.randn(2, 1, 3, 9, 11)
    torch.testing.assert_close(module(a) + 2 * module(b), module(a + 2 * b), atol=1e-5, rtol=1e-5)


def test_adaptive_weights_follow_the_energies():
    module = BandAttentionModulation(4, adaptive=True).double()
    for p in module.parameters():
        torch.nn.init.normal_(p, std=0.5)
    x = torch.randn(2, 3, 6, 5, dtype=torch.float64)
    spectrum, bands = dct2(x), band_map(6, 5, 4, CPU)
    for image in range(2):
        means = [spectrum[image, :, bands == band].square().mean() for band in range(4)]
        theta = module.theta + module.mlp((torch.stack(means) + 1e-6).log())
        expected = idct2(spectrum[image] * (2 * theta.sigmoid())[bands])
        torch.testing.assert_close(module(x)[image], expected)


def test_network_with_the_weights_of_an_rmt_is_that_rmt():
    torch.manual_seed(0)
    arch = small_arch("rmt-tiny")
    trunk, network = RMT(arch).eval(), BARNet(arch).eval()
    network.trunk.load_state_dict(trunk.state_dict())
    image = torch.randn(1, 3, 65, 48)
    for actual, expected in zip(network(image), trunk(image), strict=True):
        torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)
    assert (network.out_channels, network.out_strides) == (trunk.out_channels, trunk.out_strides)


def test_parameters():
    with torch.device("meta"):
        counts = [
            sum(p.numel() for p in (*net.parameters(), *net.trunk.make_head(2).parameters()))
            for net in (
                BARNet(arch, out_indices=(3,), out_norm=False) for arch in ("tiny", "small")
            )
        ]
    assert counts == [13_311_282, 25_944_306]


def test_area_is_the_share_of_pairs():
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 6, 40) / 5, rng.integers(0, 2, 40)
    pairs = [(p > n) + 0.5 * (p == n) for p in scores[labels == 1] for n in scores[labels == 0]]
    assert roc_auc(scores, labels) == pytest.approx(np.mean(pairs))
    assert roc_auc([0.1, 0.9], [0, 1]) == 1
    assert np.isnan(roc_auc([0.1, 0.9], [1, 1]))
    assert equal_error_rate([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1]) == 0
    assert equal_error_rate([0.9, 0.8, 0.2, 0.1], [0, 0, 1, 1]) == 1
    # one of two is wrong on either side of the threshold
    assert equal_error_rate([0.1, 0.7, 0.6, 0.9], [0, 0, 1, 1]) == pytest.approx(0.5)


def test_metric_of_frames_and_of_videos():
    frames = [(0.9, 1, "a"), (0.3, 1, "a"), (0.4, 0, "b"), (0.5, 0, "b"), (0.2, 0, "c")]
    samples = [
        {"pred_score": torch.tensor([1 - s, s]), "gt_label": torch.tensor([y]), "video": v}
        for s, y, v in frames
    ]
    results = {}
    for level in ("frame", "video"):
        metric = BinaryAUC(level=level)
        metric.process({}, samples)
        results[level] = metric.evaluate(len(samples))["forgery/auc"]
    assert results == pytest.approx({"frame": 4 / 6, "video": 1.0})
    with pytest.raises(ValueError, match="level must be 'frame' or 'video', got 'clip'"):
        BinaryAUC(level="clip")
    with pytest.raises(ValueError, match="samples have no 'clip'"):
        BinaryAUC(level="video", video_key="clip").process({}, samples)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config(path):
    cfg = Config.fromfile(path)
    assert cfg.custom_imports.imports == ["projects.barnet.barnet"]
    with DefaultScope.overwrite_default_scope("mmpretrain"), torch.device("meta"):
        model = MODELS.build(cfg.model)
    assert isinstance(model.backbone, BARNet)
    assert model.head.fc.out_features == 2
    rules = cfg.optim_wrapper.paramwise_cfg.custom_keys
    assert dict(rules["backbone.bam.theta"]) == {"lr_mult": 10.0, "decay_mult": 0.0}
