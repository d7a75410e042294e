import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mmeffvit import create_backbone
from mmeffvit.analysis.complexity import count_complexity
from mmeffvit.checkpoint import CheckpointError, convert_official, load_weights
from mmeffvit.models import PPMA
from mmeffvit.models.classifier import Classifier, create_classifier
from mmeffvit.testing import golden_weights
from mmeffvit.testing.families import FAMILIES

from .checks import (
    check_golden_file,
    check_implementations_agree,
    count_parameters,
    drop_path_rates,
)

GOLDEN = Path(__file__).parents[2] / "data" / "golden" / "ppma.npz"

# the authors' counts: whole classifier; dense backbone with a norm on every output
PARAMETERS = {
    "tiny": (14_335_272, 12_784_832),
    "small": (26_969_472, 25_419_032),
    "base": (54_158_524, 52_608_308),
}
# 10^9 multiply-accumulates, counted on the authors' classes: 224 x 224; 512 x 512; 800 x 1344
MACS = {
    "tiny": (2.6955, 18.657, 141.9),
    "small": (4.8958, 27.977, 136.7),
    "base": (10.593, 59.92, 286.7),
}
SMALL = {
    "embed_dims": (16, 24, 32, 48),
    "depths": (1, 1, 2, 1),
    "num_heads": (2, 2, 4, 4),
    "mlp_ratios": (4, 4, 3, 3),
    "decomposed": (True, False, True, False),
    "layer_scale": (None, None, 1e-6, 0.5),
}


@pytest.mark.parametrize("implementation", ["fused", "reference"])
def test_equals_the_authors_numbers(monkeypatch, implementation):
    monkeypatch.setenv("MMEFFVIT_IMPLEMENTATION", implementation)
    expected = {f"out/stage{i}" for i in range(1, 5)}
    expected |= {f"op/{name}/out" for name in ("chunk", "whole", "mask_w", "mask_h", "mask_full")}
    errors = check_golden_file(GOLDEN, "ppma", expected)
    assert "out/logits" in errors
    # far below the family's tolerance, which would not notice another eps or another GELU
    assert max(errors.values()) < 1e-5


@pytest.mark.parametrize("variant", PARAMETERS)
def test_parameter_counts(variant):
    classifier, _, dense = count_parameters(f"ppma-{variant}")
    assert (classifier, dense) == PARAMETERS[variant]


@pytest.mark.parametrize(
    "variant", ["tiny", *(pytest.param(v, marks=pytest.mark.slow) for v in ("small", "base"))]
)
def test_macs(variant):
    with torch.device("meta"):
        classifier, dense = create_classifier(f"ppma-{variant}"), create_backbone(f"ppma-{variant}")
    small, medium, large = MACS[variant]
    found = count_complexity(classifier, (224, 224)).total_macs / 1e9
    assert found == pytest.approx(small, rel=5e-5)
    assert count_complexity(dense, (512, 512)).total_macs / 1e9 == pytest.approx(medium, rel=5e-5)
    assert count_complexity(dense, (800, 1344)).total_macs / 1e9 == pytest.approx(large, rel=5e-4)


def test_form_heads_and_rates_of_each_stage():
    with torch.device("meta"):
        networks = {name: create_backbone(f"ppma-{name}") for name in PARAMETERS}
    for name, network in networks.items():
        mixers = [stage.blocks[-1].mixer for stage in network.stages]
        assert [m.core.decomposed for m in mixers] == [True, True, name != "tiny", False]
        assert [m.head_dim for m in mixers] == [16, 32, 32, 32]
    assert networks["tiny"].stages[0].blocks[0].ffn.fc1.out_channels == 192
    assert networks["base"].stages[0].blocks[0].ffn.fc1.out_channels == 320
    assert drop_path_rates(networks["tiny"]) == pytest.approx([0.1 * i / 13 for i in range(14)])
    scales = {k.split(".")[1] for k in networks["base"].state_dict() if "layer_scale" in k}
    assert scales == {"2", "3"}
    assert not any("layer_scale" in key for key in networks["small"].state_dict())


def test_norms_have_the_authors_eps():
    backbone = PPMA(arch=SMALL)
    assert {norm.eps for norm in backbone.out_norms.values()} == {1e-5}
    blocks = [block for stage in backbone.stages for block in stage.blocks]
    assert {norm.eps for block in blocks for norm in (block.norm1, block.norm2)} == {1e-6}


def test_initial_weights():
    """Linear layers are normal of std 0.02; convolutions are uniform, as PyTorch draws them."""
    backbone = create_backbone("ppma-tiny", out_indices=(0, 1))
    for name, module in backbone.named_modules():
        if isinstance(module, torch.nn.Linear):
            assert 0.01 < module.weight.std() < 0.03, name
        if not isinstance(module, torch.nn.Conv2d):
            continue
        if module.kernel_size == (1, 1):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.05), name
            assert not module.bias.any(), name
        else:
            bound = module.weight[0].numel() ** -0.5
            assert 0.9 * bound < module.weight.abs().max() <= bound, name


def test_reference_and_fused_agree_as_networks():
    check_implementations_agree(PPMA, SMALL, torch.randn(2, 3, 43, 58))


@pytest.mark.parametrize("variant", PARAMETERS)
def test_biases_of_steps_are_not_decayed(variant):
    """They have one axis, which is what the usual exemptions ask for."""
    with torch.device("meta"):
        network = create_backbone(f"ppma-{variant}")
    steps = [p for key, p in network.named_parameters() if key.endswith(("s.bias", "log_rate"))]
    assert steps
    assert all(p.dim() == 1 for p in steps)


class TestOfficialCheckpoints:
    @pytest.fixture(scope="class")
    def official(self):
        return golden_weights(GOLDEN)

    @pytest.fixture(scope="class")
    def arch(self):
        with np.load(GOLDEN) as file:
            return FAMILIES["ppma"].arch(json.loads(str(file["meta"]))["params"])

    def test_steps_and_projections(self, official):
        state = convert_official(official, "ppma").state_dict
        theirs = "layers.2.blocks.1.retention"
        ours = "backbone.stages.2.blocks.1.mixer"
        for name, key in (("dt_linear.weight", "linear.weight"), ("dt_bias", "bias")):
            expected = official[f"{theirs}.path_embed.{name}"]
            assert torch.equal(state[f"{ours}.steps.{key}"], expected)
        expected = official[f"{theirs}.path_embed.A_log"]
        assert torch.equal(state[f"{ours}.steps.log_rate"], expected)
        weight = state[f"{ours}.qkv.weight"][:, :, 0, 0]
        for part, name in zip(weight.chunk(3), "qkv"):
            assert torch.equal(part, official[f"{theirs}.{name}_proj.weight"])

    def test_a_classifier_with_its_tables(self, official, arch):
        """Real files have the rotary angles of each stage, and no norms on outputs."""
        state = {k: v for k, v in official.items() if not k.startswith("outnorm")}
        state |= {f"layers.{i}.Relpos.angle": torch.zeros(8) for i in range(4)}
        conversion = convert_official({"model": state, "epoch": 300}, "ppma")
        assert conversion.container == "model"
        assert set(conversion.ignored) == {f"layers.{i}.Relpos.angle" for i in range(4)}
        backbone = PPMA(arch, **PPMA.classifier_options)
        classifier = Classifier(backbone, backbone.make_head(10, hidden_channels=24))
        report = load_weights(classifier, conversion.state_dict)
        assert set(report.loaded) == set(classifier.state_dict())
        # a dense network of these weights starts its norms anew
        dense = PPMA(arch)
        report = load_weights(dense, conversion.state_dict)
        assert {key.split(".")[0] for key in report.missing} == {"out_norms"}

    @pytest.mark.parametrize("variant", PARAMETERS)
    def test_published_variants_are_recognised(self, variant):
        """By the keys of the authors' code, written down from ours and back."""
        with torch.device("meta"):
            network = create_classifier(f"ppma-{variant}")
        state = {}
        for key, value in network.state_dict().items():
            state.update(official_weights(key, value))
        conversion = convert_official(state, "ppma")
        assert conversion.variant == variant
        expected = {key: value.shape for key, value in network.state_dict().items()}
        assert {k: v.shape for k, v in conversion.state_dict.items()} == expected

    def test_backbone_with_and_without_output_norms(self, official, arch):
        detector = {
            f"backbone.{key}": value
            for key, value in official.items()
            if not key.startswith(("proj", "norm", "head"))
        }
        state = convert_official({"state_dict": detector}, "ppma").state_dict
        for out_norm in (True, False):
            backbone = PPMA(arch=arch, out_norm=out_norm)
            report = load_weights(backbone, state)
            assert set(report.loaded) == set(backbone.state_dict())
        assert {key.split(".")[1] for key in report.ignored} == {"out_norms"}

    def test_other_families_are_told_apart(self, official):
        with pytest.raises(CheckpointError, match=r"not weights of rmt.* look like ppma"):
            convert_official(official, "rmt")


def official_weights(key, value):
    """A weight of ours as the authors' file has it: names of section 8 of their classes."""
    key = key.removeprefix("backbone.")
    for ours, theirs in (
        ("stem.", "patch_embed.proj."),
        ("head.fc.", "head."),
        ("head.proj.", "proj."),
        ("head.norm.", "norm."),
        ("stages.", "layers."),
    ):
        if key.startswith(ours):
            key = theirs + key.removeprefix(ours)
            break
    for ours, theirs in (
        ("mixer.steps.linear", "retention.path_embed.dt_linear"),
        ("mixer.steps.bias", "retention.path_embed.dt_bias"),
        ("mixer.steps.log_rate", "retention.path_embed.A_log"),
        ("mixer.lepe", "retention.lepe.conv"),
        ("mixer.proj", "retention.out_proj"),
        ("mixer.qkv", "retention.qkv"),
        ("norm1", "retention_layer_norm"),
        ("norm2", "final_layer_norm"),
        (".pos.", ".pos.conv."),
        ("ffn.dwconv", "ffn.dwconv.conv"),
    ):
        key = key.replace(f"{ours}", f"{theirs}") if "blocks" in key else key
    if ".downsample." in key:
        _, stage, _, layer, kind = key.split(".")
        layer = {"conv": "reduction", "norm": "norm"}[layer]
        key = f"layers.{int(stage) - 1}.downsample.{layer}.{kind}"
    if "layer_scale" in key:
        head, _, index = key.removesuffix(".gamma").rpartition(".layer_scale")
        return {f"{head}.gamma_{index}": value[None, None, None]}
    if value.dim() == 4 and value.shape[2:] == (1, 1):
        value = value[:, :, 0, 0]
    if "retention.qkv" in key:
        parts = value.chunk(3)
        return {key.replace("qkv", f"{n}_proj"): part for n, part in zip("qkv", parts)}
    return {key: value}
