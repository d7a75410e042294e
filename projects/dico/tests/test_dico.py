"""DiCo against a golden file of its authors, and what the file does not see."""

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import MODELS

from mmeffvit.testing.golden import read_golden
from projects.dico.dico import (
    DiCo,
    Diffusion,
    DigitImages,
    LatentDiffusion,
    convert_official,
    linear_betas,
    respaced,
)
from projects.dico.dico.network import modulated, timestep_embedding

GOLDEN = Path(__file__).parent / "data/dico.npz"
CONFIG = Path(__file__).resolve().parents[1] / "configs/dico-digits_1xb64-1k_8x8.py"
SMALL = {"embed_dims": 8, "depths": (1, 1, 1, 1, 1), "mlp_ratio": 1.5}
#: with label drop, a thousand classes and a learnt variance, as the authors print them
PARAMETERS = {
    "small": 33_137_672,
    "base": 129_992_712,
    "large": 463_897_992,
    "extra-large": 701_151_368,
    "huge": 1_037_408_328,
}


@pytest.fixture(scope="module")
def golden():
    meta, tensors = read_golden(GOLDEN)
    options = meta["constructor"]
    arch = {
        "embed_dims": options["hidden_size"],
        "depths": tuple(options["depth"]),
        "mlp_ratio": options["mlp_ratio"],
    }
    network = DiCo(
        arch,
        in_channels=options["in_channels"],
        num_classes=options["num_classes"],
        label_drop=options["class_dropout_prob"],
        learn_sigma=options["learn_sigma"],
    )
    state = {k.removeprefix("state/"): v for k, v in tensors.items() if k.startswith("state/")}
    network.load_state_dict(convert_official({"ema": state, "opt": None}))
    return network.eval().requires_grad_(False), tensors


def close(actual, expected, atol=2e-5):
    torch.testing.assert_close(actual, expected, atol=atol, rtol=1e-5)


def test_network_equals_the_golden_file(golden):
    network, tensors = golden
    outs = network.features(tensors["input"], tensors["input_t"], tensors["input_y"])
    for name, actual in zip([*(f"stage{i}" for i in range(5)), "output"], outs, strict=True):
        close(actual, tensors[f"out/{name}"])
    conditions = network.conditions_of(tensors["input_t"], tensors["input_y"])
    for i, actual in enumerate(conditions, 1):
        close(actual, tensors[f"op/cond/out{i}"], 1e-4)


def test_parts_equal_the_golden_file(golden):
    network, tensors = golden
    close(timestep_embedding(tensors["op/sinusoid/in/t"]), tensors["op/sinusoid/out"], 1e-4)
    zeros = torch.zeros(1, 1, 1, 1)
    close(modulated(tensors["op/norm/in"], zeros, zeros), tensors["op/norm/out"])
    block = network.levels[1][0]
    close(block(tensors["op/block/in/x"], tensors["op/block/in/c"]), tensors["op/block/out"])
    close(block.mixer(tensors["op/convmodule/in"], None), tensors["op/convmodule/out"])
    down = F.pixel_unshuffle(network.downs[0](tensors["op/down1_2/in"]), 2)
    close(down, tensors["op/down1_2/out"])
    up = F.pixel_shuffle(network.ups[0](tensors["op/up3_2/in"]), 2)
    close(up, tensors["op/up3_2/out"])
    given = [tensors[f"op/cfg/in/{name}"] for name in ("x", "t", "y", "scale")]
    close(network.guided(*given[:3], given[3].item()), tensors["op/cfg/out"])


def test_process_equals_the_golden_file(golden):
    network, tensors = golden
    op = {k.removeprefix("op/diffusion/"): v for k, v in tensors.items() if "diffusion" in k}
    betas = linear_betas()
    process = Diffusion(betas)
    for name, table in (
        ("betas", process.betas),
        ("alphas_cumprod", process.remaining),
        ("posterior_log_variance_clipped", process.posterior_log_variance),
    ):
        torch.testing.assert_close(table, op[name], atol=1e-12, rtol=1e-12)
    for count in (250, 50):
        shorter, steps = respaced(betas, count)
        assert torch.equal(steps, op[f"timestep_map_{count}"])
        torch.testing.assert_close(shorter, op[f"betas_{count}"], atol=1e-12, rtol=1e-12)

    start, noise, index, labels = (op[f"loss/in/{name}"] for name in ("x0", "noise", "t", "y"))
    close(process.noisy(start, index, noise), op["loss/x_t"])
    losses = process.losses(lambda x, t: network(x, t, labels), start, index, noise)
    torch.testing.assert_close(losses["mse"], op["loss/out_mse"], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(losses["vb"], op["loss/out_vb"], atol=1e-5, rtol=1e-4)
    total = losses["mse"] + losses["vb"]
    torch.testing.assert_close(total, op["loss/out_loss"], atol=1e-5, rtol=1e-4)

    short = Diffusion(*respaced(betas, 50))
    index, state, labels = (op[f"step50/in/{name}"] for name in ("index", "x", "y"))
    results = short.step(network(state, short.steps[index], labels), state, index)
    for name, actual in zip(("mean", "log_variance", "pred_xstart"), results, strict=True):
        expected = op[f"step50/out_{name}"]
        close(actual, expected, 1e-5 * expected.abs().max().item() + 2e-5)


@pytest.mark.parametrize("variant", PARAMETERS)
def test_parameter_counts(variant):
    with torch.device("meta"):
        network = DiCo(variant)
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS[variant]


def test_new_networks_return_zero_and_every_parameter_learns():
    torch.manual_seed(0)
    network = DiCo(SMALL, num_classes=3).train()
    given = torch.randn(2, 4, 8, 12), torch.tensor([0.5, 999.0]), torch.tensor([0, 2])
    assert network(*given).eq(0).all()
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.2)
    network(*given).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype=dtype):
            assert network(*given).isfinite().all()


def test_labels_are_dropped_in_training_alone():
    torch.manual_seed(0)
    network = DiCo({**SMALL, "depths": (1, 0, 0, 0, 0)}, num_classes=3, label_drop=0.999)
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.3)
    x, t = torch.randn(1, 4, 4, 4), torch.zeros(1)
    label, none = torch.tensor([1]), torch.tensor([3])
    torch.testing.assert_close(network.train()(x, t, label), network.eval()(x, t, none))
    assert not torch.allclose(network(x, t, label), network(x, t, none))
    kept = DiCo(SMALL, num_classes=3, label_drop=0.0, learn_sigma=False)
    assert len(kept.conditions[0].labels.weight) == 3
    assert kept(x, t, label).shape == x.shape
    with pytest.raises(ValueError, match=r"multiples of 4, got \(1, 4, 6, 4\)"):
        kept(x[:, :, :1].expand(-1, -1, 6, -1), t, label)


def test_impossible_arguments():
    with pytest.raises(ValueError, match="no variant 'smal'"):
        DiCo("smal")
    with pytest.raises(ValueError, match="five numbers"):
        DiCo({**SMALL, "depths": (1, 1)})
    with pytest.raises(ValueError, match="count must be 2 to 10, got 11"):
        respaced(linear_betas(10), 11)


@pytest.mark.parametrize("learn_sigma", [True, False])
def test_a_perfect_denoiser_leads_back_to_the_start(learn_sigma):
    """The start of one image is known: the noise follows, and samples end where it lies."""
    torch.manual_seed(0)
    start = torch.rand(2, 1, 4, 4) * 2 - 1
    process = Diffusion(*respaced(linear_betas(), 40), learn_sigma=learn_sigma)

    def denoiser(state, steps):
        index = torch.searchsorted(process.steps, steps)
        signal = process.at(process.remaining.sqrt(), index) * start
        noise = (state - signal) / process.at((1 - process.remaining).sqrt(), index)
        return torch.cat((noise, -torch.ones_like(noise)), 1) if learn_sigma else noise

    *_, sample = process.sample(denoiser, torch.randn_like(start))
    torch.testing.assert_close(sample, start, atol=1e-3, rtol=1e-3)
    losses = process.losses(denoiser, start, torch.tensor([3, 39]), torch.randn_like(start))
    assert losses["mse"].max() < 1e-6
    if learn_sigma:
        # mean and variance are the posterior's
        assert losses["vb"].abs().max() < 1e-4
    assert ("vb" in losses) == learn_sigma


def test_variance_learns_and_the_mean_does_not_from_its_loss():
    torch.manual_seed(0)
    out = torch.randn(2, 2, 4, 4, requires_grad=True)
    process = Diffusion(linear_betas(20))
    start, noise = torch.randn(2, 2, 1, 4, 4)
    losses = process.losses(lambda state, t: out, start, torch.tensor([0, 7]), noise)
    (grad,) = torch.autograd.grad(losses["vb"].sum(), out)
    assert grad[:, 0].eq(0).all()
    assert grad[:, 1].abs().sum() > 0


def test_digits_and_config():
    digits = DigitImages()
    assert len(digits) == 1797
    sample = digits[3]
    assert sample["inputs"].shape == (1, 8, 8)
    assert sample["inputs"].min() == -1
    assert sample["inputs"].max() <= 1
    cfg = Config.fromfile(CONFIG)
    model = MODELS.build(cfg.model)
    assert isinstance(model, LatentDiffusion)
    batch = torch.stack([digits[i]["inputs"] for i in range(4)])
    losses = model(batch, digits.labels[:4], mode="loss")
    assert set(losses) == {"loss_mse", "loss_vb"}
    # at first the network says no noise at all
    assert losses["loss_mse"].item() == pytest.approx(1, abs=0.3)
    for guidance in (1.0, 2.0):
        model.guidance = guidance
        model.short_process = Diffusion(*respaced(linear_betas(), 2))
        samples = model.eval()(batch, digits.labels[:4], mode="predict")
        assert samples.shape == (4, 1, 8, 8)
        assert samples.isfinite().all()


def test_program_of_the_readme():
    text = (CONFIG.parents[1] / "README.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(program, "README.md", "exec"), {})
