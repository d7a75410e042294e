from pathlib import Path

import pytest
import torch

from mmeffvit import create_backbone
from mmeffvit.models import PyramidViT, SecViT

from .checks import (
    TensorSizes,
    check_golden_file,
    check_implementations_agree,
    check_normal_weights,
    count_parameters,
    drop_path_rates,
)

GOLDEN = Path(__file__).parents[2] / "data" / "golden" / "secvit.npz"

# the authors' counts: whole classifier, and without projection, batch norm and classifier
PARAMETERS = {
    "tiny": (14_981_800, 13_429_440),
    "small": (26_776_104, 25_223_744),
    "base": (54_682_776, 53_130_416),
    "large": (96_495_096, 94_811_664),
}
SMALL = {
    "embed_dims": (16, 32, 48, 64),
    "depths": (1, 1, 2, 1),
    "num_heads": (1, 2, 3, 4),
    "mlp_ratios": (3, 3, 3, 3),
    "num_clusters": (32, 8, (2, 3), -1),
    "layer_scale": (None, None, 1e-6, 0.5),
}


@pytest.mark.parametrize("implementation", ["fused", "reference"])
def test_equals_the_authors_numbers(monkeypatch, implementation):
    monkeypatch.setenv("MMEFFVIT_IMPLEMENTATION", implementation)
    expected = {f"out/stage{i}" for i in range(4)} | {"out/logits", "op/sec_attn/out"}
    check_golden_file(GOLDEN, "secvit", expected)


@pytest.mark.parametrize("variant", PARAMETERS)
def test_parameter_counts(variant):
    assert count_parameters(f"secvit-{variant}")[:2] == PARAMETERS[variant]


def test_drop_path_rises_linearly_over_the_whole_network():
    with torch.device("meta"):
        backbone = create_backbone("secvit-tiny")
        shorter = create_backbone("secvit-tiny", out_indices=(0, 1))
    rates = drop_path_rates(backbone)
    assert rates == pytest.approx([0.1 * i / 14 for i in range(15)])
    kept = drop_path_rates(shorter)
    assert kept == rates[:4]


def test_layer_scale_only_where_asked():
    backbone = SecViT(arch=SMALL)
    scales = {k: p for k, p in backbone.named_parameters() if "layer_scale" in k}
    assert {key.split(".")[1] for key in scales} == {"2", "3"}
    assert scales["stages.2.blocks.1.layer_scale2.gamma"].eq(1e-6).all()
    assert scales["stages.3.blocks.0.layer_scale1.gamma"].eq(0.5).all()


def test_initial_weights():
    check_normal_weights(create_backbone("secvit-tiny", out_indices=(0, 1, 2)))


def test_clusters_per_stage_and_block():
    backbone = SecViT(arch=SMALL)
    clusters = [[b.mixer.core.num_clusters for b in stage.blocks] for stage in backbone.stages]
    assert clusters == [[32], [8], [2, 3], [-1]]
    with pytest.raises(ValueError, match=r"num_clusters'\]\[2\] has 3 entries for 2 blocks"):
        SecViT(arch={**SMALL, "num_clusters": (1, 1, (1, 2, 3), 1)})


def test_reference_and_fused_agree_as_networks():
    check_implementations_agree(SecViT, SMALL, torch.randn(2, 3, 43, 58))


def test_tokens_per_cluster_reaches_every_mixer_and_changes_clustered_stages_only():
    assert {
        block.mixer.core.tokens_per_cluster
        for stage in SecViT(arch=SMALL, tokens_per_cluster=98).stages
        for block in stage.blocks
    } == {98}
    plain = SecViT(arch=SMALL, out_indices=(0,)).eval()
    following = SecViT(arch=SMALL, out_indices=(0,), tokens_per_cluster=98).eval()
    following.load_state_dict(plain.state_dict())
    # 56 x 56 tokens in 32 clusters are 98 each: at 224 x 224 both are the published network
    x = torch.randn(1, 3, 224, 224)
    assert torch.equal(plain(x)[0], following(x)[0])
    x = torch.randn(1, 3, 448, 224)
    assert not torch.equal(plain(x)[0], following(x)[0])


def test_pyramid_takes_any_mixer_per_stage_and_block():
    full = {"type": "mmeffvit.SECMixer", "num_clusters": -1}
    arch = {k: v for k, v in SMALL.items() if k != "num_clusters"}
    arch["mixers"] = ({"type": "mmeffvit.SECMixer", "num_clusters": 4}, full, [full, full], full)
    backbone = PyramidViT(arch=arch)
    assert backbone.stages[0].blocks[0].mixer.core.num_clusters == 4
    assert [o.shape[1] for o in backbone(torch.randn(1, 3, 64, 64))] == [16, 32, 48, 64]
    with pytest.raises(ValueError, match=r"mixers'\]\[2\] lists 1 mixers for 2 blocks"):
        PyramidViT(arch={**arch, "mixers": (full, full, [full], full)})


@pytest.mark.slow
def test_memory_and_result_at_detection_size():
    """At 800 x 1344 no tensor is as large as one stage's attention weights would be."""
    arch = {**SecViT.arch_zoo["tiny"], "depths": (1, 1, 1, 1)}
    backbone = SecViT(arch=arch, out_indices=(0,)).eval()
    x = torch.randn(1, 3, 800, 1344)
    with torch.no_grad(), TensorSizes() as made:
        (out,) = backbone(x)
    assert out.isfinite().all()
    weights = 2 * 67200 * 2100
    assert max(made.sizes) < weights / 10
