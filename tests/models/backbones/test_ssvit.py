import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mmeffvit import create_backbone
from mmeffvit.layers import MapContext
from mmeffvit.models import PyramidViT, SSViT
from mmeffvit.ops import sparse_scan_steps
from mmeffvit.testing.families import FAMILIES

from .checks import (
    check_golden_file,
    check_implementations_agree,
    check_normal_weights,
    count_parameters,
    drop_path_rates,
)

GOLDEN = Path(__file__).parents[2] / "data" / "golden" / "ssvit.npz"

# the authors' counts: whole classifier, and without projection, batch norm and classifier
PARAMETERS = {
    "tiny": (15_095_688, 13_543_328),
    "small": (27_175_240, 25_622_880),
    "base": (57_138_736, 55_586_376),
    "large": (100_234_112, 98_550_680),
}
SMALL = {
    "embed_dims": (16, 32, 48, 64),
    "depths": (2, 1, 3, 1),
    "num_heads": (1, 2, 3, 4),
    "mlp_ratios": (4, 4, 3, 3),
    "window_sizes": (3, 3, (3, 5, 2), 3),
    "reverse": ((False, True),) * 4,
    "layer_scale": (None, None, 1e-6, 0.5),
}


@pytest.mark.parametrize("implementation", ["fused", "reference"])
def test_equals_the_authors_numbers(monkeypatch, implementation):
    monkeypatch.setenv("MMEFFVIT_IMPLEMENTATION", implementation)
    operators = {"op/s3a_forward/out", "op/s3a_reverse/out", "op/na2d/out", "op/na2d/out_logits"}
    starts = {"op/na2d/out_start_h", "op/na2d/out_start_w"}
    stages = {f"out/stage{i}" for i in range(4)}
    expected = stages | {"out/logits"} | operators | starts
    errors = check_golden_file(GOLDEN, "ssvit", expected)
    assert errors["op/na2d/out_start_h"] == errors["op/na2d/out_start_w"] == 0


def test_kernels_are_those_the_authors_code_called():
    with np.load(GOLDEN) as file:
        meta = json.loads(str(file["meta"]))
    backbone = SSViT(arch=FAMILIES["ssvit"].arch(meta["constructor"]))
    calls = []
    for stage, side in zip(backbone.stages, (24, 12, 6, 3)):
        for block in stage.blocks:
            mixer = block.mixer
            steps = sparse_scan_steps(side, side, mixer.core.window_size, mixer.core.reverse)
            calls += [[side, side, step.kernel[0], step.dilation[0]] for step in steps]
    assert calls == meta["natten_calls_h_w_kernel_dilation"]


@pytest.mark.parametrize("variant", PARAMETERS)
def test_parameter_counts(variant):
    assert count_parameters(f"ssvit-{variant}")[:2] == PARAMETERS[variant]


def test_drop_path_rises_linearly_over_the_whole_network():
    with torch.device("meta"):
        backbone = create_backbone("ssvit-tiny")
    rates = drop_path_rates(backbone)
    assert rates == pytest.approx([0.1 * i / 14 for i in range(15)])


def test_initial_weights():
    check_normal_weights(create_backbone("ssvit-tiny", out_indices=(0, 1, 2)))


def test_directions_alternate_in_every_stage():
    with torch.device("meta"):
        backbone = create_backbone("ssvit-base")
    for stage in backbone.stages:
        assert [b.mixer.core.reverse for b in stage.blocks] == [
            bool(i % 2) for i in range(len(stage.blocks))
        ]
        assert {b.mixer.core.window_size for b in stage.blocks} == {7}


def test_windows_per_stage_and_block():
    backbone = SSViT(arch=SMALL)
    windows = [[b.mixer.core.window_size for b in stage.blocks] for stage in backbone.stages]
    assert windows == [[3, 3], [3], [3, 5, 2], [3]]
    with pytest.raises(ValueError, match=r"window_sizes'\]\[1\] has 2 entries for 1 blocks"):
        SSViT(arch={**SMALL, "window_sizes": (3, (3, 3), 3, 3)})
    with pytest.raises(ValueError, match=r"reverse'\]\[0\] must be a sequence .* got False"):
        SSViT(arch={**SMALL, "reverse": (False,) * 4})


def test_official_lists_may_be_longer_than_a_stage():
    constructor = {
        **{key: SMALL[key] for key in ("embed_dims", "depths", "num_heads", "mlp_ratios")},
        "window_sizess": [[7] * 20] * 4,
        "is_reversess": [[False, True] * 10] * 4,
        "layerscales": [False, False, True, True],
        "layer_init_values": 1e-6,
    }
    arch = FAMILIES["ssvit"].arch(constructor)
    assert [len(windows) for windows in arch["window_sizes"]] == [2, 1, 3, 1]
    assert arch["layer_scale"] == [None, None, 1e-6, 1e-6]
    assert [b.mixer.core.reverse for b in SSViT(arch=arch).stages[2].blocks] == [False, True, False]


def test_reference_and_fused_agree_as_networks():
    check_implementations_agree(SSViT, SMALL, torch.randn(1, 3, 48, 70))


@pytest.mark.parametrize("option", [{"max_kernel": 5}, {"per_axis": True}])
def test_options_reach_every_mixer_and_are_off_where_the_paper_is_followed(option):
    plain, changed = (SSViT(arch=SMALL, out_indices=(0, 1), **o).eval() for o in ({}, option))
    changed.load_state_dict(plain.state_dict())
    ((name, value),) = option.items()
    for stage in changed.stages:
        assert {getattr(block.mixer.core, name) for block in stage.blocks} == {value}
    x = torch.randn(1, 3, 48, 48)  # kernels of 5 at most, and square
    assert torch.equal(plain(x)[1], changed(x)[1])
    x = torch.randn(1, 3, 96, 160)
    assert not torch.equal(plain(x)[1], changed(x)[1])


def test_mixer_of_any_pyramid():
    mixers = [
        [{"type": "mmeffvit.S3AMixer", "window_size": 3, "reverse": r} for r in (False, True)],
        {"type": "mmeffvit.SECMixer", "num_clusters": 4},
        {"type": "mmeffvit.S3AMixer"},
        {"type": "mmeffvit.SECMixer"},
    ]
    arch = {k: v for k, v in SMALL.items() if k not in ("window_sizes", "reverse")}
    backbone = PyramidViT(arch={**arch, "mixers": mixers})
    outs = backbone(torch.randn(1, 3, 64, 96))
    assert [out.shape[1] for out in outs] == [16, 32, 48, 64]


@pytest.mark.slow
def test_memory_at_detection_size():
    """What one block of the first stage keeps at 800 x 1344 is less than its weights would be."""
    backbone = create_backbone("ssvit-tiny", out_indices=(0,), out_norm=False)
    block = backbone.stages[0].blocks[0].mixer
    x = torch.randn(1, 64, 200, 336).contiguous(memory_format=torch.channels_last)
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: (kept.update({t.untyped_storage().data_ptr(): t}), t)[1], lambda t: t
    ):
        block(x, MapContext.of(x))
    stored = sum(t.untyped_storage().nbytes() for t in kept.values())
    weights = 2 * 200 * 336 * 29**2 * 4
    assert stored < weights / 2
