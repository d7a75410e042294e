"""The configs for ImageNet-1K hold the authors' recipe, build and take a step."""

import pytest
import torch
import yaml
from mmengine.registry import MODELS, DefaultScope

from mmeffvit.models.zoo import backbone_classes

from .common import ROOT, build_optim_wrapper, check_rest_builds, load

FAMILIES = ("secvit", "ravlt", "ssvit", "rmt")
SIZES = ("tiny", "small", "base", "large")
# stochastic depth and parameters of the classifiers, as in the authors' codes
DROP_PATH = dict.fromkeys(FAMILIES, (0.1, 0.15, 0.4, 0.5)) | {"ravlt": (0.1, 0.15, 0.4, 0.55)}
PARAMETERS = {
    "secvit": (14_981_800, 26_776_104, 54_682_776, 96_495_096),
    "ravlt": (14_897_768, 25_591_208, 48_241_288, 95_242_440),
    "ssvit": (15_095_688, 27_175_240, 57_138_736, 100_234_112),
    "rmt": (14_334_216, 26_967_240, 54_154_896, 95_464_864),
}


@pytest.fixture(autouse=True)
def _mmpretrain_scope():
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        yield


def _load(family, size):
    return load(f"configs/{family}/{family}-{size}_16xb128_in1k.py")


@pytest.mark.parametrize("family", FAMILIES)
def test_variants_build(family):
    metafile = yaml.safe_load((ROOT / f"configs/{family}/metafile_in1k.yml").read_text())
    listed = {model["Name"]: model["Metadata"]["Parameters"] for model in metafile["Models"]}
    for index, size in enumerate(SIZES):
        cfg = _load(family, size)
        assert cfg.model.backbone.type == f"mmeffvit.{backbone_classes()[family].__name__}"
        assert cfg.model.backbone.drop_path_rate == DROP_PATH[family][index]
        with torch.device("meta"):
            model = MODELS.build(cfg.model)
        assert model.backbone.arch_name == size
        parameters = sum(param.numel() for param in model.parameters())
        assert parameters == PARAMETERS[family][index]
        assert parameters == listed[f"{family}-{size}_16xb128_in1k"]


def test_recipe():
    cfg = _load("secvit", "tiny")
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(2e-3)
    assert cfg.optim_wrapper.optimizer.weight_decay == 0.05
    assert "clip_grad" not in cfg.optim_wrapper
    warmup, cosine = cfg.param_scheduler
    assert warmup.start_factor * cfg.optim_wrapper.optimizer.lr == pytest.approx(1e-6)
    assert (warmup.end, cosine.begin, cosine.end) == (5, 5, cfg.train_cfg.max_epochs)
    assert (cosine.eta_min, cfg.train_cfg.max_epochs) == (1e-5, 300)
    assert cfg.auto_scale_lr.base_batch_size == 16 * cfg.train_dataloader.batch_size == 2048
    assert cfg.train_dataloader.sampler == {"type": "RepeatAugSampler", "shuffle": True}
    averages = [hook for hook in cfg.custom_hooks if hook.type == "EMAHook"]
    assert [hook.momentum for hook in averages] == pytest.approx([1 - 0.99996**4])
    kinds = [transform.type for transform in cfg.train_dataloader.dataset.pipeline]
    assert {"RandomResizedCrop", "RandAugment", "RandomErasing"} <= set(kinds)
    augment = cfg.train_dataloader.dataset.pipeline[kinds.index("RandAugment")]
    assert (augment.magnitude_level, augment.magnitude_std) == (9, 0.5)
    assert cfg.train_dataloader.dataset.pipeline[kinds.index("RandomErasing")].erase_prob == 0.25
    assert cfg.sync_bn == "torch"


@pytest.mark.parametrize(
    ("name", "rate", "images", "lr", "decay", "kept", "parameters"),
    [
        ("tiny_8xb256", 0.2, 256, 2e-3, 0.05, 0.99984, 22_320_552),
        ("small_8xb256", 0.4, 256, 2e-3, 0.05, 0.99984, 34_643_304),
        ("base_8xb128", 0.5, 128, 1e-3, 0.1, 0.99992, 77_382_184),
    ],
)
def test_recipe_of_cswin(name, rate, images, lr, decay, kept, parameters):
    cfg = load(f"configs/cswin/cswin-{name}_in1k.py")
    assert cfg.model.backbone.drop_path_rate == rate
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    assert model.backbone.arch_name == name.partition("_")[0]
    assert sum(param.numel() for param in model.parameters()) == parameters
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ("AdamW", lr, decay)
    assert cfg.train_dataloader.batch_size == images
    assert cfg.auto_scale_lr.base_batch_size == 8 * images
    assert cfg.train_dataloader.sampler.type == "DefaultSampler"
    warmup, cosine = cfg.param_scheduler
    assert warmup.start_factor * lr == pytest.approx(1e-6)
    assert (warmup.end, cosine.begin, cosine.end, cosine.eta_min) == (20, 20, 300, 1e-5)
    averages = [hook for hook in cfg.custom_hooks if hook.type == "EMAHook"]
    assert [hook.momentum for hook in averages] == pytest.approx([1 - kept])
    check_rest_builds(cfg)


def test_what_is_decayed():
    cfg = _load("ravlt", "base")
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    assert {(group["lr"], group["weight_decay"]) for group in groups} == {(2e-3, 0.05), (2e-3, 0)}
    for group in groups:
        vectors = {param.ndim == 1 for param in group["params"]}
        assert vectors == {group["weight_decay"] == 0}


@pytest.mark.parametrize(
    "path",
    [
        "secvit/secvit-tiny_16xb128_in1k.py",
        "demo/secvit_cls_demo.py",
        "demo/simmim_secvit_demo.py",
    ],
)
def test_pipelines_and_hooks_build(path):
    check_rest_builds(load(f"configs/{path}"))


def test_one_step():
    """With mixed images and labels, of a network at a size for tests."""
    from mmpretrain.structures import DataSample

    cfg = _load("secvit", "tiny")
    cfg.model.backbone.arch = {
        "embed_dims": (8, 8, 16, 16),
        "depths": (1, 1, 1, 1),
        "num_heads": (1, 1, 2, 2),
        "mlp_ratios": (2, 2, 2, 2),
        "num_clusters": (2, 2, 2, -1),
        "layer_scale": (None,) * 4,
    }
    cfg.model.head.in_channels = 16
    cfg.model.data_preprocessor = cfg.data_preprocessor
    model = MODELS.build(cfg.model).train()
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {name: param.clone() for name, param in model.named_parameters()}
    samples = [DataSample().set_gt_label(label) for label in (3, 999, 3, 0)]
    batch = {
        "inputs": torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8),
        "data_samples": samples,
    }
    log = model.train_step(batch, wrapper)
    assert log["loss"].isfinite()
    # the warm-up starts later: every parameter moves
    still = [name for name, param in model.named_parameters() if torch.equal(before[name], param)]
    assert still == []


def test_the_demos_share_their_backbone():
    classifier = load("configs/demo/secvit_cls_demo.py")
    detector = load("configs/demo/mask_rcnn_secvit_pretrained_demo.py")
    assert detector.model.backbone.arch == classifier.model.backbone.arch
    init = detector.model.backbone.init_cfg
    assert init.checkpoint == f"work_dirs/secvit_cls_demo/epoch_{classifier.max_epochs}.pth"
    plain = load("configs/demo/mask_rcnn_secvit_demo.py").to_dict()
    pretrained = detector.to_dict()
    pretrained["model"]["backbone"].pop("init_cfg")
    pretrained["custom_hooks"][-1]["title"] = plain["custom_hooks"][-1]["title"]
    assert pretrained == plain
