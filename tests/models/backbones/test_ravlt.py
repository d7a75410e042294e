import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mmeffvit import create_backbone
from mmeffvit.checkpoint import convert_official, load_weights
from mmeffvit.models import RAVLT
from mmeffvit.testing.families import FAMILIES

from .checks import (
    TensorSizes,
    check_golden_file,
    check_implementations_agree,
    count_parameters,
)

GOLDEN = Path(__file__).parents[2] / "data" / "golden" / "ravlt.npz"

# the authors' counts: whole classifier, without projection, batch norm and classifier, and with
# four norms on the outputs instead
PARAMETERS = {
    "tiny": (14_897_768, 13_345_408, 13_347_328),
    "small": (25_591_208, 24_038_848, 24_040_896),
    "base": (48_241_288, 46_688_928, 46_691_296),
    "large": (95_242_440, 93_559_008, 93_561_760),
}
SMALL = {
    "embed_dims": (16, 32, 48, 64),
    "depths": (1, 1, 2, 1),
    "num_heads": (1, 2, 3, 4),
    "mlp_ratios": (3.5, 3.5, 3.5, 3.5),
    "attention": ("l", ("v",), ("v", "l"), "v"),
    "layer_scale": (1, None, 1e-6, 0.5),
}


@pytest.mark.parametrize("implementation", ["fused", "reference"])
def test_equals_the_authors_numbers(monkeypatch, implementation):
    monkeypatch.setenv("MMEFFVIT_IMPLEMENTATION", implementation)
    expected = {f"out/{kind}{i}" for kind in ("stage", "raw_stage") for i in range(4)}
    expected |= {"out/logits", "op/rala_linear/out", "op/softmax_gated/out"}
    check_golden_file(GOLDEN, "ravlt", expected)


@pytest.mark.parametrize("variant", PARAMETERS)
def test_parameter_counts(variant):
    assert count_parameters(f"ravlt-{variant}") == PARAMETERS[variant]


@pytest.mark.parametrize(
    ("variant", "values"),
    [
        ("tiny", (1, 1, 1, 1)),
        ("small", (1, 1, 1, 1)),
        ("base", (1, 1, 1e-6, 1e-6)),
        ("large", (1e-6, 1e-6, 1e-6, 1e-6)),
    ],
)
def test_layer_scale_differs_per_stage_and_variant(variant, values):
    arch = {**RAVLT.arch_zoo[variant], "embed_dims": (32, 32, 32, 32), "num_heads": (1,) * 4}
    backbone = RAVLT(arch={**arch, "depths": (1, 1, 1, 1)})
    for stage, value in zip(backbone.stages, values):
        assert stage.blocks[0].layer_scale1.gamma.eq(value).all()
        assert stage.blocks[0].layer_scale2.gamma.eq(value).all()


def test_kinds_of_attention_per_stage_and_block():
    def kinds(backbone):
        return [
            "".join("lv"[type(b.mixer).__name__ == "GatedSoftmaxMixer"] for b in stage.blocks)
            for stage in backbone.stages
        ]

    assert kinds(RAVLT(arch=SMALL)) == ["l", "v", "vl", "v"]
    with torch.device("meta"):
        assert kinds(create_backbone("ravlt-tiny")) == ["ll", "ll", "vvvvvv", "vv"]
    with pytest.raises(ValueError, match=r"attention'\]\[2\] has 3 entries for 2 blocks"):
        RAVLT(arch={**SMALL, "attention": ("l", "l", ("l", "v", "v"), "v")})
    with pytest.raises(ValueError, match=r"attention'\]\[1\] has 'x'; kinds of attention are 'l'"):
        RAVLT(arch={**SMALL, "attention": ("l", "x", "v", "v")})


def test_authors_lists_may_be_longer_than_the_stage():
    with np.load(GOLDEN) as file:
        constructor = json.loads(str(file["meta"]))["constructor"]
    constructor["flagss"] = [["l"] * 10, ["l"] * 10, ["v"] * 20, ["v"] * 10]
    arch = FAMILIES["ravlt"].arch(constructor)
    assert [len(kinds) for kinds in arch["attention"]] == constructor["depths"]
    assert arch["layer_scale"] == [1, None, 1e-6, None]


def test_weights_of_a_detector_come_with_their_output_norms():
    with np.load(GOLDEN) as file:
        constructor = json.loads(str(file["meta"]))["constructor"]
        official = {
            f"backbone.{key.removeprefix('state/')}": torch.from_numpy(file[key])
            for key in file.files
            if key.startswith(("state/patch_embed", "state/layers", "state/extra_norms"))
        }
    head = {"neck.lateral_convs.0.conv.weight": torch.ones(1)}
    conversion = convert_official({"state_dict": official | head}, "ravlt")
    backbone = RAVLT(arch=FAMILIES["ravlt"].arch(constructor))
    report = load_weights(backbone, conversion.state_dict)
    assert not report.missing
    assert set(report.loaded) == set(backbone.state_dict())
    norm = official["backbone.extra_norms.2.norm.weight"]
    assert torch.equal(backbone.out_norms["2"].weight, norm)


def test_reference_and_fused_agree_as_networks():
    arch = {**SMALL, "layer_scale": (1, None, 0.1, 0.5)}
    check_implementations_agree(RAVLT, arch, torch.randn(2, 3, 43, 58))


def test_linear_blocks_mix_with_others_in_a_pyramid():
    from mmeffvit.models import PyramidViT

    arch = {k: v for k, v in SMALL.items() if k != "attention"}
    linear, full = {"type": "mmeffvit.RALAMixer"}, {"type": "mmeffvit.GatedSoftmaxMixer"}
    clusters = {"type": "mmeffvit.SECMixer", "num_clusters": 4}
    backbone = PyramidViT(arch={**arch, "mixers": (linear, clusters, [linear, full], full)})
    assert [o.shape[1] for o in backbone(torch.randn(1, 3, 64, 64))] == [16, 32, 48, 64]


@pytest.mark.slow
def test_memory_at_detection_size():
    """At 800 x 1344 no tensor comes near the attention weights of the third stage."""
    arch = {**RAVLT.arch_zoo["tiny"], "depths": (1, 1, 1, 1)}
    backbone = RAVLT(arch=arch, out_indices=(2,)).eval()
    x = torch.randn(1, 3, 800, 1344)
    with torch.no_grad(), TensorSizes() as made:
        backbone(x)
    # the largest is the first stage's projection to q, k, v and gate
    assert max(made.sizes) == 4 * 64 * 200 * 336
    assert max(made.sizes) < 4 * 4200 * 4200 / 4
