import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmeffvit import create_backbone
from mmeffvit.analysis.complexity import count_complexity
from mmeffvit.checkpoint import CheckpointError, convert_official, load_weights
from mmeffvit.layers import LayerNorm2d
from mmeffvit.models import ViTCoMer
from mmeffvit.testing import relative_rms_error, small_arch
from mmeffvit.testing.families import FAMILIES

from .checks import check_golden_file, check_implementations_agree, quick_tracing

GOLDEN = Path(__file__).parents[2] / "data" / "golden" / "vitcomer.npz"
PARAMETERS = {
    "det-small": 30_457_568,
    "det-base": 109_051_520,
    "seg-tiny": 10_619_360,
    "seg-small": 31_280_480,
    "seg-base": 110_603_648,
}
DET, SEG = small_arch("vit-comer-det-small"), small_arch("vit-comer-seg-small")


@pytest.mark.parametrize("implementation", ["fused", "reference"])
def test_equals_the_authors_numbers(monkeypatch, implementation):
    monkeypatch.setenv("MMEFFVIT_IMPLEMENTATION", implementation)
    expected = {f"{kind}out/stage{i}" for kind in ("", "seg_") for i in range(1, 5)}
    errors = check_golden_file(GOLDEN, "vit-comer", expected)
    assert errors.keys() - expected == {"op/msda/out", "op/mrfp/out"}


@pytest.mark.parametrize("variant", PARAMETERS)
def test_parameter_counts(variant):
    with torch.device("meta"):
        backbone = create_backbone(f"vit-comer-{variant}")
    assert sum(p.numel() for p in backbone.parameters()) == PARAMETERS[variant]


def test_multiply_accumulates():
    """Of the published network at 512 x 512, sampling and norms not counted."""
    with torch.device("meta"):
        backbone = create_backbone("vit-comer-seg-tiny")
    complexity = count_complexity(backbone, (512, 512))
    assert complexity.total_macs / 1e9 == pytest.approx(36.08, abs=0.005)


# published with it off, less the two norms that are built there and not used: 8 x 2 x 2 x C
@pytest.mark.parametrize(
    ("variant", "count"),
    [("det-small", 26_807_072 - 12_288), ("det-base", 99_246_848 - 24_576)],
)
def test_parameters_without_attention_in_the_pyramid(variant, count):
    arch = {**ViTCoMer.arch_zoo[variant], "cnn_attention": (False,) * 4}
    with torch.device("meta"):
        backbone = ViTCoMer(arch)
    assert sum(p.numel() for p in backbone.parameters()) == count


def test_what_a_variant_is():
    with torch.device("meta"):
        det, seg = create_backbone("vit-comer-det-base"), create_backbone("vit-comer-seg-tiny")
    assert [b.mixer.core.window_size for b in det.blocks] == [14, 14, None] * 4
    assert {b.mixer.core.window_size for b in seg.blocks} == {None}
    assert (det.position.size, seg.position.size) == ((37, 37), (14, 14))
    assert det.interactions[0].mrfp.fc1.out_channels == 384
    assert seg.interactions[0].mrfp.fc1.out_channels == 6 * 192
    assert det.interactions[3].cti_tov.attn.value_proj.out_channels == 384
    assert [len(i.extra_CTIs) for i in det.interactions] == [0, 0, 0, 4]
    rates = [b.drop_path.drop_prob for b in det.blocks]
    assert rates == pytest.approx([0.3 * i / 11 for i in range(12)])
    assert det.interactions[0].cti_tov.drop_path.drop_prob == 0.3


def test_norms_have_the_authors_eps():
    backbone = ViTCoMer(DET)
    assert {m.eps for m in backbone.modules() if isinstance(m, LayerNorm2d)} == {1e-6}
    assert {m.eps for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-5}


def test_initial_weights():
    backbone = ViTCoMer(DET)
    assert not any(i.cti_tov.scale.gamma.any() for i in backbone.interactions)
    assert {s.gamma.unique().item() for b in backbone.blocks for s in (b.layer_scale1,)} == {1.0}
    conv = backbone.spm.conv3[0].weight  # 16 channels of 3 x 3
    assert conv.std().item() == pytest.approx((2 / (9 * 32)) ** 0.5, rel=0.1)
    fc = backbone.spm.fc4.weight
    assert fc.std().item() == pytest.approx((2 / 32) ** 0.5, rel=0.1)
    linear = backbone.interactions[0].mrfp.fc2.weight
    assert linear.std().item() == pytest.approx(0.02, rel=0.15)
    depthwise = backbone.interactions[0].cti_tov.ffn.dwconv.weight
    assert depthwise.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.3)
    assert not backbone.interactions[1].cti_toc.cfinter.attn.sampling.weight.any()
    assert backbone.interactions[1].cti_toc.cfinter.attn.sampling.bias[:4].any()


@pytest.mark.parametrize("arch", [DET, SEG], ids=["det", "seg"])
def test_other_sizes_are_padded_and_cropped(arch):
    """On the right and at the bottom, to multiples of 32; also sides that are no multiple of 16."""
    backbone = randomised(arch)
    x = torch.randn(1, 3, 70, 41)
    padded = F.pad(x, (0, 64 - 41, 0, 96 - 70))
    for out, whole in zip(backbone(x), backbone(padded), strict=True):
        assert torch.equal(out, whole[..., : out.shape[-2], : out.shape[-1]])


@pytest.mark.slow
def test_exported_from_an_image_that_needs_no_padding():
    arch = {**SEG, "depth": 1, "interactions": ((0, 0),), "num_extra": 0, "vit_feature": "last"}
    parts = {"to_vit": (True,), "to_cnn": (False,), "cnn_attention": (False,)}
    backbone = ViTCoMer({**arch, **parts}, out_indices=(0, 1)).eval().requires_grad_(False)
    sides = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    with quick_tracing():
        x = torch.randn(1, 3, 96, 128)
        module = torch.export.export(backbone, (x,), dynamic_shapes=(sides,)).module()
    for size in ((96, 128), (65, 90), (131, 77)):
        x = torch.randn(1, 3, *size)
        for actual, expected in zip(module(x), backbone(x), strict=True):
            assert actual.shape == expected.shape
            assert relative_rms_error(actual, expected) < 1e-4


def randomised(arch, **kwargs):
    """With attention that leads somewhere, and a gamma that is not zero."""
    torch.manual_seed(0)
    backbone = ViTCoMer(arch, **kwargs).eval()
    for name, parameter in backbone.named_parameters():
        if "gamma" in name or "attn" in name:
            nn.init.normal_(parameter, std=0.3)
    return backbone


def test_which_map_of_the_vit_reaches_the_outputs():
    """Detection adds the last one to all outputs, segmentation the i-th to output i."""
    for arch, used in ((DET, (1, 1, 1, 1)), (SEG, (0, 1, 2, 3))):
        backbone = randomised(arch)
        features: list[torch.Tensor] = []
        keep = features.append
        for _, last in arch["interactions"]:
            backbone.blocks[last].register_forward_hook(lambda m, a, out, keep=keep: keep(out))
        x = torch.randn(1, 3, 64, 96)
        with torch.no_grad():
            outs = backbone(x)
            bare = ViTCoMer({**arch, "vit_feature": None}).eval()
            bare.load_state_dict(backbone.state_dict())
            without = bare(x)
        for i, (out, base) in enumerate(zip(outs, without)):
            feature = F.interpolate(features[used[i]], out.shape[-2:], mode="bilinear")
            norm = backbone.out_norms[str(i)]
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            torch.testing.assert_close(
                out - base, feature * scale[:, None, None], atol=1e-4, rtol=1e-4
            )


def test_reference_and_fused_agree_as_networks():
    check_implementations_agree(ViTCoMer, DET, torch.randn(1, 3, 32, 64))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 0.01), (torch.bfloat16, 0.06)])
@pytest.mark.parametrize("arch", [DET, SEG], ids=["det", "seg"])
def test_half_precision_where_batch_norms_see_enough(arch, dtype, tolerance):
    backbone = ViTCoMer(arch).train()
    x = torch.randn(2, 3, 128, 128)
    with torch.no_grad():
        expected = backbone(x)
        with torch.autocast("cpu", dtype=dtype):
            outs = backbone(x)
    for out, exact in zip(outs, expected):
        assert (out.float() - exact).abs().mean() < tolerance * exact.abs().mean()


@pytest.mark.parametrize("changes", [{"to_vit": (False, True)}, {"num_extra": 0}])
def test_parts_that_are_off_are_not_built(changes):
    backbone = ViTCoMer({**DET, **changes, "cnn_attention": (True, False)})
    sum(out.sum() for out in backbone(torch.randn(2, 3, 64, 64))).backward()
    assert all(p.grad is not None for p in backbone.parameters())


def test_impossible_archs():
    with pytest.raises(ValueError, match=r"arch\['to_cnn'\] needs one entry for each of the 2"):
        ViTCoMer({**DET, "to_cnn": (True,)})
    with pytest.raises(ValueError, match=r"'last', 'each' .* got 'all'"):
        ViTCoMer({**DET, "vit_feature": "all"})


# -- weights ---------------------------------------------------------------------------------------


def official_weights(prefix="", **changes):
    with np.load(GOLDEN) as file:
        meta = json.loads(str(file["meta"]))
        start = f"{prefix}state/"
        state = {
            key.removeprefix(start): torch.from_numpy(file[key])
            for key in file.files
            if key.startswith(start)
        }
    kind = "seg" if prefix else "det"
    params = {**meta[f"{kind}_params"], **changes, "kind": kind, "state": state}
    return state, FAMILIES["vit-comer"].arch(params)


def test_weights_of_a_detector():
    state, arch = official_weights()
    whole = {f"backbone.{key}": value for key, value in state.items()}
    whole["rpn_head.rpn_conv.weight"] = torch.zeros(1)
    conversion = convert_official({"state_dict": whole}, "vit-comer")
    assert conversion.ignored == {"rpn_head.rpn_conv.weight": "not part of the backbone"}
    report = load_weights(ViTCoMer(arch), conversion.state_dict)
    assert not report.missing
    assert not report.ignored
    # a backbone of fewer outputs needs less
    report = load_weights(ViTCoMer(arch, out_indices=(3,)), conversion.state_dict)
    assert {key.split(".")[1] for key in report.ignored} == {"spm", "up", "out_norms"}


def test_weights_that_the_authors_class_makes_and_does_not_use():
    state, arch = official_weights("seg_", use_CTI_toV=False, cnn_feature_interaction=False)
    state = {k: v for k, v in state.items() if "cti_tov" not in k and "cfinter" not in k}
    report = load_weights(ViTCoMer(arch), convert_official(state, "vit-comer").state_dict)
    assert set(report.ignored.values()) == {"a part that the authors' class makes and does not use"}
    assert {key.split(".")[3] for key in report.ignored} == {"mrfp", "cti_toc", "extra_CTIs"}


def plain_weights(backbone, patch=16, grid=5):
    """Weights of a plain ViT as DINOv2 publishes them."""
    dim = backbone.arch["embed_dims"]
    state = {
        "cls_token": torch.randn(1, 1, dim),
        "mask_token": torch.randn(1, dim),
        "pos_embed": torch.randn(1, 1 + grid**2, dim),
        "patch_embed.proj.weight": torch.randn(dim, 3, patch, patch),
        "patch_embed.proj.bias": torch.randn(dim),
        "norm.weight": torch.randn(dim),
        "norm.bias": torch.randn(dim),
    }
    names = {"mixer": "attn", "ffn": "mlp"}
    for key, value in backbone.blocks.state_dict().items():
        index, part, *rest = key.split(".")
        part = part.replace("layer_scale", "ls")
        value = value[..., 0, 0] if value.dim() == 4 else value
        state[".".join(("blocks", index, names.get(part, part), *rest))] = torch.randn_like(value)
    return state


def test_weights_of_a_plain_vit():
    backbone = ViTCoMer(DET)
    state = plain_weights(backbone, patch=14)
    conversion = convert_official(state, "vit-comer")
    assert conversion.variant is None
    assert set(conversion.ignored) == {"cls_token", "mask_token", "norm.weight", "norm.bias"}
    report = load_weights(backbone, conversion.state_dict)
    assert set(report.adapted) == {"position.table", "patch_embed.weight"}
    new = "not in the weights of a plain ViT"
    assert {k.split(".")[0] for k, why in report.missing.items() if why == new} == {
        "spm", "interactions", "up", "out_norms",
    }  # fmt: skip
    qkv = state["blocks.3.attn.qkv.weight"]
    assert torch.equal(backbone.blocks[3].mixer.qkv.weight[..., 0, 0], qkv)
    assert torch.equal(backbone.blocks[2].layer_scale2.gamma, state["blocks.2.ls2.gamma"])
    expected = F.interpolate(state["patch_embed.proj.weight"], (16, 16), mode="bicubic")
    torch.testing.assert_close(backbone.patch_embed.weight, expected)
    del conversion.state_dict["backbone.blocks.1.norm1.weight"]
    with pytest.raises(CheckpointError, match=r"blocks\.1\.norm1\.weight is not in the checkpoint"):
        load_weights(ViTCoMer(DET), conversion.state_dict)


# -- training --------------------------------------------------------------------------------------


def test_depths_of_parameters():
    backbone = ViTCoMer(DET)
    depth = {
        key: backbone.get_layer_depth(f"backbone.{key}", "backbone.")
        for key, _ in backbone.named_parameters()
    }
    assert depth["position.table"] == depth["patch_embed.weight"] == (0, 6)
    assert depth["blocks.2.mixer.qkv.weight"] == (3, 6)
    assert backbone.get_layer_depth("blocks.2.weight", "backbone.") == (5, 6)
    full = ("spm.", "interactions.", "up.", "out_norms.")
    assert {d for key, d in depth.items() if key.startswith(full)} == {(5, 6)}


def test_what_is_frozen():
    names = []
    for frozen_stages in (0, 1):
        backbone = ViTCoMer(DET, frozen_stages=frozen_stages)
        frozen = {k for k, p in backbone.named_parameters() if not p.requires_grad}
        names.append({".".join(k.split(".")[:2]) for k in frozen})
    assert names[0] == {"patch_embed.weight", "patch_embed.bias", "position.table"}
    inside = {n for n in names[1] if n.startswith(("blocks", "interactions"))}
    assert inside == {"blocks.0", "blocks.1", "interactions.0"}
    branch = {"spm." + name.partition(".")[0] for name, _ in backbone.spm.named_parameters()}
    assert names[1] - names[0] - inside == branch
