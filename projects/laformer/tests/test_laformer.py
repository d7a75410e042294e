"""LAformer's restorers: what must hold of them, as there is no file of the authors' outputs."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, METRICS, MODELS
from PIL import Image
from skimage.metrics import structural_similarity

from mmeffvit.analysis.complexity import count_complexity
from projects.laformer.laformer import (
    LAformer,
    LAformerSR,
    Photographs,
    PlainUNet,
    RestorationScores,
    degraded,
    luma,
)
from projects.laformer.laformer.data import PHOTOGRAPHS
from projects.laformer.laformer.model import ImageRestorer, tiled

PROJECT = Path(__file__).resolve().parents[1]
CONFIGS = sorted(PROJECT.glob("configs/*.py"))
U = {"embed_dims": (4, 8, 16), "depths": (2, 1, 2), "num_heads": (1, 2, 2), "refinement": 1}
SR = {"embed_dims": 8, "groups": 2, "depth": 2, "num_heads": 2, "tail_dims": None}


def macs(network, size):
    with torch.device("meta"):
        by_module = count_complexity(network(), size).macs
    return sum(sum(kinds.values()) for kinds in by_module.values())


@pytest.mark.parametrize(
    ("make", "parameters", "size", "giga"),
    [
        (LAformer, 25_264_947, (256, 256), 136.73),
        (LAformerSR, 1_256_304, (180, 320), 69.4),
        (lambda: LAformerSR("full"), 13_986_039, (180, 320), 803.5),
    ],
    ids=["u", "sr-light", "sr-full"],
)
def test_parameters_and_costs(make, parameters, size, giga):
    """Those that a count by hand of the same choices has given, norms left out."""
    with torch.device("meta"):
        assert sum(p.numel() for p in make().parameters()) == parameters
        counted = count_complexity(make(), size).macs
    total = sum(v for kinds in counted.values() for kind, v in kinds.items() if kind != "norm")
    assert total / 1e9 == pytest.approx(giga, rel=2e-3)


@pytest.mark.parametrize(
    ("mode", "size"), [("alternate", (1, 9)), ("parallel", (13, 21)), ("serial", (16, 8))]
)
def test_any_size_and_every_parameter_learns(mode, size):
    torch.manual_seed(0)
    x = torch.rand(2, 3, *size)
    for network, scale in (
        (LAformer(U, channel_mode=mode), 1),
        (LAformerSR(SR, scale=3, channel_mode=mode), 3),
        (LAformerSR({**SR, "tail_dims": 4}, scale=4, channel_mode=mode), 4),
        (PlainUNet((4, 8), scale=2), 2),
    ):
        out = network(x)
        assert out.shape == (2, 3, size[0] * scale, size[1] * scale)
        out.square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_corrections_of_nothing_are_the_input():
    x = torch.rand(1, 3, 13, 10)
    for network in (LAformer(U), PlainUNet((4, 8))):
        torch.nn.init.zeros_(network.out.weight)
        torch.nn.init.zeros_(network.out.bias)
        assert torch.equal(network(x), x)
    network = LAformerSR(SR, scale=2, bicubic=True)
    torch.nn.init.zeros_(network.tail[0].weight)
    torch.nn.init.zeros_(network.tail[0].bias)
    larger = torch.nn.functional.interpolate(x, scale_factor=2, mode="bicubic")
    assert torch.equal(network(x), larger)


def test_modes_differ_in_what_mixes_channels():
    blocks = {
        mode: [
            type(block.mixer).__name__ for block in LAformer(U, channel_mode=mode).encoder[0].blocks
        ]
        for mode in ("alternate", "parallel")
    }
    assert blocks["alternate"] == ["RELAMixer", "GatedConvMixer"]
    torch.manual_seed(0)
    both = LAformer(U, channel_mode="parallel")
    other = LAformer(U, channel_mode="serial")
    other.load_state_dict(both.state_dict())
    x = torch.rand(1, 3, 8, 8)
    assert not torch.allclose(both(x), other(x))


def test_large_images_in_low_precision():
    network = LAformer({**U, "embed_dims": (4, 8), "depths": (1, 1), "num_heads": (1, 2)}).eval()
    x = torch.rand(1, 3, 256, 200)
    with torch.no_grad():
        exact = network(x)
        for dtype, tolerance in ((torch.bfloat16, 2e-2), (torch.float16, 2e-3)):
            with torch.autocast("cpu", dtype=dtype):
                out = network(x)
            assert ((out - exact).norm() / exact.norm()).item() < tolerance


def test_impossible_arguments():
    with pytest.raises(ValueError, match="no variant 'U'"):
        LAformer("U")
    with pytest.raises(
        ValueError, match=r"LAformerSR has no variant 'ligth'.*did you mean 'light'"
    ):
        LAformerSR("ligth")
    with pytest.raises(ValueError, match=r"needs exactly \['depths'"):
        LAformer({"embed_dims": (4, 8)})
    with pytest.raises(ValueError, match="twice the one before"):
        LAformer({**U, "embed_dims": (4, 8, 12)})
    with pytest.raises(ValueError, match="one entry for each"):
        LAformer({**U, "depths": (1, 1)})
    with pytest.raises(ValueError, match="channel_mode must be one of"):
        LAformer(U, channel_mode="serie")
    with pytest.raises(ValueError, match="scale must be 2, 3 or 4, got 5"):
        LAformerSR(SR, scale=5)
    with pytest.raises(ValueError, match="scale must divide crop"):
        Photographs("test", crop=64, scale=3)
    with pytest.raises(ValueError, match="split must be one of train, test"):
        Photographs("val")
    with pytest.raises(ValueError, match="tiles of 8 pixels cannot share 8"):
        ImageRestorer({"type": "mmeffvit.PlainUNet"}, tile=8, overlap=8)


def test_tiles_are_put_together():
    x = torch.rand(2, 3, 21, 10)
    torch.testing.assert_close(tiled(lambda t: 2 * t, x, 8, 3), 2 * x)
    torch.testing.assert_close(tiled(lambda t: t, x, 64, 16), x)

    def enlarged(t):
        return t.repeat_interleave(2, -1).repeat_interleave(2, -2)

    torch.testing.assert_close(tiled(enlarged, x, 8, 0), enlarged(x))
    # the network of a restorer sees no more than a tile
    sides = []
    model = ImageRestorer({"type": "mmeffvit.PlainUNet", "embed_dims": (4, 8)}, tile=16, overlap=4)
    model.network.register_forward_pre_hook(lambda m, given: sides.append(given[0].shape[-2:]))
    assert model.restore(x).shape == x.shape
    assert sides == [(16, 10), (16, 10)]


def test_degradations():
    image = torch.rand(3, 12, 18)
    assert torch.equal(degraded(image), image)
    once, again = (degraded(image, noise=25, seed=1) for _ in range(2))
    assert torch.equal(once, again)
    flat = degraded(torch.full((3, 200, 200), 0.5), noise=25, seed=0) - 0.5
    assert flat.std().item() * 255 == pytest.approx(25, rel=0.01)
    small = degraded(image, scale=3)
    assert small.shape == (3, 4, 6)
    torch.testing.assert_close(
        degraded(torch.full((3, 12, 12), 0.25), scale=2).mean(), torch.tensor(0.25)
    )


def test_photographs():
    assert not set(PHOTOGRAPHS["train"]) & set(PHOTOGRAPHS["test"])
    train = Photographs("train", crop=32, noise=10, length=7)
    torch.manual_seed(0)
    samples = [train[i] for i in range(len(train))]
    assert all(s["inputs"].shape == s["targets"].shape == (3, 32, 32) for s in samples)
    assert len({s["targets"].sum().item() for s in samples}) == 7
    test = Photographs("test", crop=1000, scale=2)
    # sides of whole photographs, made even
    assert [tuple(s["targets"].shape) for s in test] == [(3, 300, 450), (3, 400, 600)]
    assert tuple(test[0]["inputs"].shape) == (3, 150, 225)
    noisy = Photographs("test", crop=32, noise=25)
    assert torch.equal(noisy[1]["inputs"], noisy[1]["inputs"])


def test_scores():
    """Against the formulas: PSNR by hand, SSIM of scikit-image with the published window."""
    rng = np.random.default_rng(0)
    target = torch.tensor(rng.random((3, 32, 40)), dtype=torch.float32)
    restored = target + 0.02
    metric = RestorationScores(crop_border=4)
    metric.process(None, [{"inputs": target[:, ::2, ::2], "targets": target, "restored": restored}])
    scores = metric.evaluate(1)

    def pixels(x):
        return (x.clamp(0, 1) * 255).round().permute(1, 2, 0).double().numpy()[4:-4, 4:-4]

    a, b = pixels(target), pixels(restored)
    expected = 10 * math.log10(255**2 / ((a - b) ** 2).mean())
    assert scores["restoration/psnr"] == pytest.approx(expected, abs=1e-9)
    ssim = structural_similarity(
        a, b, data_range=255, channel_axis=-1, win_size=11, gaussian_weights=True,
        sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip
    assert scores["restoration/ssim"] == pytest.approx(ssim, abs=1e-9)
    assert scores["restoration/psnr_before"] < 15
    assert luma(np.full((1, 1, 3), 255.0)) == pytest.approx(235)
    assert luma(np.zeros((1, 1, 3))) == pytest.approx(16)
    gray = RestorationScores(on_luma=True)
    gray.process(None, [{"inputs": target, "targets": target, "restored": restored}])
    # a shift of all channels alike is weighed by 219 / 255
    a, b = (
        luma((x.clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()) for x in (target, restored)
    )
    expected = 10 * math.log10(255**2 / ((a - b) ** 2).mean())
    assert gray.evaluate(1)["restoration/psnr"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_configs(config):
    cfg = Config.fromfile(config)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    train = DATASETS.build(cfg.train_dataloader.dataset)
    test = DATASETS.build(cfg.test_dataloader.dataset)
    assert cfg.val_dataloader.dataset == cfg.test_dataloader.dataset
    assert test[0]["targets"].shape == (3, 256, 256)
    test = DATASETS.build({**cfg.test_dataloader.dataset, "crop": 64})
    samples = [train[i] for i in range(2)]
    inputs, targets = (torch.stack([s[name] for s in samples]) for name in ("inputs", "targets"))
    loss = model(inputs, targets, mode="loss")["loss"]
    error = (model(inputs) - targets).square() + 1e-6
    torch.testing.assert_close(loss, error.sqrt().mean())
    loss.backward()
    batch = {name: value[None] for name, value in test[0].items()}
    metric = METRICS.build(cfg.test_evaluator)
    metric.process(batch, model.eval().val_step(batch))
    scores = metric.evaluate(1)
    assert set(scores) == {f"restoration/{name}" for name in ("psnr", "ssim", "psnr_before")}
    # noise of sigma s in 255 leaves 20 log10(255 / s); a little more, as values are clipped
    expected = 20.2 if "noise" in config.stem else 30
    assert scores["restoration/psnr_before"] == pytest.approx(
        expected, abs=1 if "noise" in config.stem else 4
    )


def test_compared_networks_cost_the_same():
    for ours, plain in (
        ("laformer-u_1xb4-300_noise25-48", "unet_1xb4-300_noise25-48"),
        ("laformer-sr_1xb4-300_x2-48", "unet_1xb4-300_x2-48"),
    ):
        cfgs = [Config.fromfile(PROJECT / f"configs/{name}.py") for name in (ours, plain)]
        side = 48 // cfgs[0].train_dataloader.dataset.get("scale", 1)
        costs = [
            macs(lambda cfg=cfg: MODELS.build(cfg.model.network), (side, side)) for cfg in cfgs
        ]
        assert costs[1] == pytest.approx(costs[0], rel=0.08)


def test_picture(tmp_path):
    spec = importlib.util.spec_from_file_location("restore", PROJECT / "restore.py")
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    arguments = []
    for config in CONFIGS:
        if "unet" in config.stem:
            weights = tmp_path / f"{config.stem}.pth"
            torch.save(MODELS.build(Config.fromfile(config).model).state_dict(), weights)
            arguments += [str(config), str(weights)]
    out = tmp_path / "restored.png"
    program.main([*arguments, "--out", str(out), "--crop", "30"])
    # two degradations; what was given, what a model makes of it, the photograph
    assert Image.open(out).size == (3 * 64, 2 * 64)
    with pytest.raises(SystemExit):
        program.main([str(CONFIGS[0])])
