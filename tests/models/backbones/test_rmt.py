import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mmeffvit import create_backbone
from mmeffvit.checkpoint import CheckpointError, convert_official, load_weights
from mmeffvit.models import RMT
from mmeffvit.testing import golden_weights
from mmeffvit.testing.families import FAMILIES

from .checks import (
    check_golden_file,
    check_implementations_agree,
    count_parameters,
)

GOLDEN = Path(__file__).parents[2] / "data" / "golden" / "rmt.npz"

# the authors' counts: whole classifier; without projection, batch norm and classifier; with a norm
# on every output
PARAMETERS = {
    "tiny": (14_334_216, 12_781_856, 12_783_776),
    "small": (26_967_240, 25_414_880, 25_416_800),
    "base": (54_154_896, 52_602_536, 52_604_680),
    "large": (95_464_864, 93_781_432, 93_784_280),
}
SMALL = {
    "embed_dims": (16, 24, 32, 48),
    "depths": (1, 1, 2, 1),
    "num_heads": (2, 2, 4, 4),
    "mlp_ratios": (4, 4, 3, 3),
    "decay_inits": (2, 2, 2, 1),
    "decay_ranges": (4, 4, 6, 6),
    "decomposed": (True, False, True, False),
    "layer_scale": (None, None, 1e-6, 0.5),
}


@pytest.mark.parametrize("implementation", ["fused", "reference"])
def test_equals_the_authors_numbers(monkeypatch, implementation):
    monkeypatch.setenv("MMEFFVIT_IMPLEMENTATION", implementation)
    expected = {f"out/{kind}stage{i}" for kind in ("", "raw_") for i in range(4)}
    expected |= {"out/logits", "out/logits_token_label"}
    expected |= {"op/masa_decomposed/out", "op/masa_full/out", "op/relpos/decay"}
    check_golden_file(GOLDEN, "rmt", expected)


@pytest.mark.parametrize("variant", PARAMETERS)
def test_parameter_counts(variant):
    assert count_parameters(f"rmt-{variant}") == PARAMETERS[variant]


def test_form_and_rates_of_each_stage():
    with torch.device("meta"):
        networks = {name: create_backbone(f"rmt-{name}") for name in PARAMETERS}
    for name, network in networks.items():
        mixers = [stage.blocks[-1].mixer for stage in network.stages]
        assert [m.core.decomposed for m in mixers] == [True, True, name != "tiny", False]
        for mixer, span in zip(mixers, network.arch["decay_ranges"]):
            last = math.log(1 - 2 ** -(2 + span * (mixer.num_heads - 1) / mixer.num_heads))
            assert mixer.rates[0] == pytest.approx(math.log(0.75))
            assert mixer.rates[-1] == pytest.approx(last)
    heads = [stage.blocks[0].mixer.num_heads for stage in networks["base"].stages]
    assert heads == [5, 5, 10, 16]
    assert networks["base"].stages[0].blocks[0].ffn.fc1.out_channels == 320
    assert networks["tiny"].stages[0].blocks[0].ffn.fc1.out_channels == 192


def test_norms_have_the_authors_eps():
    backbone = RMT(arch=SMALL)
    assert {norm.eps for norm in backbone.out_norms.values()} == {1e-5}
    blocks = [block for stage in backbone.stages for block in stage.blocks]
    assert {norm.eps for block in blocks for norm in (block.norm1, block.norm2)} == {1e-6}


def test_layer_scale_only_where_asked():
    scales = {k: p for k, p in RMT(arch=SMALL).named_parameters() if "layer_scale" in k}
    assert {key.split(".")[1] for key in scales} == {"2", "3"}
    assert scales["stages.2.blocks.1.layer_scale2.gamma"].eq(1e-6).all()


def test_initial_weights():
    """Linear layers are normal of std 0.02; convolutions are uniform, as PyTorch draws them."""
    backbone = create_backbone("rmt-tiny", out_indices=(0, 1))
    for name, module in backbone.named_modules():
        if not isinstance(module, torch.nn.Conv2d):
            continue
        if module.kernel_size == (1, 1):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.05), name
            assert not module.bias.any(), name
        else:
            bound = module.weight[0].numel() ** -0.5
            assert 0.9 * bound < module.weight.abs().max() <= bound, name
            assert module.bias.any(), name


def test_reference_and_fused_agree_as_networks():
    check_implementations_agree(RMT, SMALL, torch.randn(2, 3, 43, 58))


def test_checkpointing_changes_nothing_where_attention_goes_in_chunks(monkeypatch):
    from mmeffvit.ops.manhattan_attention import fused

    monkeypatch.setattr(fused, "LARGEST_MASK", 0)
    plain, recomputed = (RMT(arch=SMALL, with_cp=with_cp).train() for with_cp in (False, True))
    recomputed.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 64, 96)
    grads = []
    for network in (plain, recomputed):
        loss = sum(out.square().sum() for out in network(x))
        grads.append(torch.autograd.grad(loss, list(network.parameters())))
    for actual, expected in zip(*grads):
        torch.testing.assert_close(actual, expected)


class TestOfficialCheckpoints:
    @pytest.fixture(scope="class")
    def official(self):
        return golden_weights(GOLDEN)

    @pytest.fixture(scope="class")
    def arch(self):
        with np.load(GOLDEN) as file:
            return FAMILIES["rmt"].arch(json.loads(str(file["meta"]))["constructor"])

    def test_three_projections_become_one(self, official):
        state = convert_official(official, "rmt").state_dict
        prefix = "layers.2.blocks.1.retention"
        weight = state["backbone.stages.2.blocks.1.mixer.qkv.weight"]
        bias = state["backbone.stages.2.blocks.1.mixer.qkv.bias"]
        assert weight.shape == (144, 48, 1, 1)
        for i, name in enumerate("qkv"):
            part = slice(48 * i, 48 * (i + 1))
            assert torch.equal(weight[part, :, 0, 0], official[f"{prefix}.{name}_proj.weight"])
            assert torch.equal(bias[part], official[f"{prefix}.{name}_proj.bias"])

    def test_order_of_the_file_does_not_matter(self, official):
        expected = convert_official(official, "rmt").state_dict
        reverse = convert_official(dict(reversed(official.items())), "rmt").state_dict
        assert reverse.keys() == expected.keys()
        assert all(torch.equal(reverse[key], value) for key, value in expected.items())

    def test_a_missing_projection_is_an_error(self, official):
        state = {k: v for k, v in official.items() if "2.blocks.1.retention.k_proj.bias" not in k}
        message = r"stages.2.blocks.1.mixer.qkv.bias' is made of 3 tensors .* 1 are missing"
        with pytest.raises(CheckpointError, match=message):
            convert_official(state, "rmt")

    def test_token_label_head_and_tables_are_ignored_with_a_note(self, official):
        conversion = convert_official({"model_ema": official}, "rmt")
        ignored = set(conversion.ignored)
        tables = {f"layers.{i}.Relpos.{name}" for i in range(4) for name in ("angle", "decay")}
        assert ignored - tables == {"aux_head.weight", "aux_head.bias"}
        assert "token-label" in conversion.ignored["aux_head.weight"]
        assert conversion.container == "model_ema"

    def test_backbone_with_and_without_output_norms(self, official, arch):
        detector = {
            f"backbone.{key}": value
            for key, value in official.items()
            if not key.startswith(("proj", "norm", "head", "aux_head"))
        }
        state = convert_official({"state_dict": detector}, "rmt").state_dict
        for out_norm in (True, False):
            backbone = RMT(arch=arch, out_norm=out_norm)
            report = load_weights(backbone, state)
            assert set(report.loaded) == set(backbone.state_dict())
        assert {key.split(".")[1] for key in report.ignored} == {"out_norms"}
        assert all("no output needs" in reason for reason in report.ignored.values())

    def test_other_families_are_told_apart(self, official):
        with pytest.raises(CheckpointError, match=r"not weights of secvit.* look like rmt"):
            convert_official(official, "secvit")


@pytest.mark.slow
def test_nothing_quadratic_in_the_area_is_kept_at_detection_size():
    """Forward of the third stage, full attention over 50 x 84 tokens, as it is trained."""
    arch = {**RMT.arch_zoo["tiny"], "depths": (1, 1, 1, 1)}
    backbone = RMT(arch=arch, out_indices=(2,)).train()
    largest = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: (largest.append(t.untyped_storage().nbytes()), t)[1], lambda t: t
    ):
        (out,) = backbone(torch.randn(1, 3, 800, 1344))
    assert out.shape == (1, 256, 50, 84)
    weights = 4 * 8 * 4200**2
    assert max(largest) < weights / 4
