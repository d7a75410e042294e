"""The configs of point clouds build, hold the papers' recipes, and train."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
import yaml
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS, PARAM_SCHEDULERS, DefaultScope
from torch import nn

from mmeffvit.datasets.points import ObjectSample
from mmeffvit.models.points import ConDaFormer, FlatFormer, PointDetector, PointSegmentor

from .common import ROOT, build_optim_wrapper, load

S3DIS = "condaformer/condaformer-s_2xb4-3000e_s3dis-seg"
SCANNET = "condaformer/condaformer_4xb3-900e_scannet-seg"
SCANNET200 = "condaformer/condaformer_4xb3-900e_scannet200-seg"
WAYMO = "flatformer/flatformer_8xb1-24e_waymo-3d-3class"
WAYMO_D5 = "flatformer/flatformer_8xb1-12e_waymoD5-3d-3class"
WAYMO_FRAMES = {
    2: "flatformer/flatformer-2frames_8xb1-24e_waymo-3d-3class",
    3: "flatformer/flatformer-3frames_8xb1-24e_waymo-3d-3class",
}
CONDAFORMERS = {S3DIS: 8_423_917, SCANNET: 19_777_652, SCANNET200: 19_611_368}
FLATFORMERS = dict.fromkeys((WAYMO, WAYMO_D5, *WAYMO_FRAMES.values()), 2_268_110)
PARAMETERS = CONDAFORMERS | FLATFORMERS


@pytest.fixture(autouse=True)
def _own_scope():
    with DefaultScope.overwrite_default_scope("mmeffvit"):
        yield


def _load(name):
    return load(f"configs/{name}.py")


def _build_model(cfg):
    with torch.device("meta"):
        return MODELS.build(cfg.model)


def _schedule(cfg, epoch_length):
    """The rate of every iteration, built as the runner builds it, over the initial one."""
    wrapper = build_optim_wrapper(nn.Linear(1, 1), cfg.optim_wrapper)
    (group, *_) = wrapper.optimizer.param_groups
    initial = group["lr"]
    schedulers = [
        PARAM_SCHEDULERS.build(
            scheduler, default_args={"optimizer": wrapper, "epoch_length": epoch_length}
        )
        for scheduler in cfg.param_scheduler
    ]
    assert not any(scheduler.by_epoch for scheduler in schedulers)
    rates = []
    for _ in range(cfg.train_cfg.max_epochs * epoch_length):
        wrapper.step()
        rates.append(group["lr"] / initial)
        for scheduler in schedulers:
            scheduler.step()
    return np.array(rates)


def test_no_config_is_missing_or_unknown():
    there = {
        path.relative_to(ROOT / "configs").with_suffix("").as_posix()
        for folder in ("condaformer", "flatformer")
        for path in (ROOT / "configs" / folder).glob("*.py")
    }
    assert there == PARAMETERS.keys()


@pytest.mark.parametrize("name", PARAMETERS)
def test_builds(name):
    cfg = _load(name)
    model = _build_model(cfg)
    assert isinstance(model, PointSegmentor if name in CONDAFORMERS else PointDetector)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert parameters == PARAMETERS[name]
    metafile = yaml.safe_load((ROOT / f"configs/{name.split('/')[0]}/metafile.yml").read_text())
    listed = {m["Name"]: m["Metadata"]["Parameters"] for m in metafile["Models"]}
    assert parameters == listed[name.split("/")[1]]

    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        # the object database is no part of the project
        pipeline = [t for t in loader.dataset.pipeline if t.type != "mmeffvit.ObjectSample"]
        assert len(Compose(pipeline).transforms) >= 3
        assert DATASETS.get(loader.dataset.type) is not None
    assert METRICS.build(cfg.val_evaluator)
    for hook in (*cfg.custom_hooks, *cfg.default_hooks.values()):
        assert HOOKS.build(hook)
    assert cfg.sync_bn == "torch"
    gpus, batch = name.split("_")[1].split("-")[0].split("xb")
    assert cfg.train_dataloader.batch_size == int(batch)
    assert cfg.auto_scale_lr.base_batch_size == int(gpus) * int(batch)


def _options(cfg, model):
    """(learning rate, weight decay) of every parameter by name."""
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    assert isinstance(wrapper.optimizer, torch.optim.AdamW)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    options = {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in wrapper.optimizer.param_groups
        for parameter in group["params"]
    }
    assert options.keys() == set(names.values())
    return options, wrapper


class TestConDaFormer:
    @pytest.mark.parametrize("name", CONDAFORMERS)
    def test_recipe(self, name):
        cfg = _load(name)
        model = _build_model(cfg)
        options, wrapper = _options(cfg, model)
        decay = 0.05 if name == S3DIS else 0.02
        blocks = {n for n, _ in model.backbone.blocks.named_parameters(prefix="backbone.blocks")}
        assert 0 < len(blocks) < len(options)
        for parameter, option in options.items():
            assert option == pytest.approx((6e-4 if parameter in blocks else 6e-3, decay))
        assert wrapper.clip_grad_kwargs is None
        assert cfg.randomness.seed == 3407
        # epochs of the name: the data set goes through its rooms several times in one of ours
        epochs = int(name.split("-")[-2].split("e")[0])
        assert cfg.train_cfg.max_epochs * cfg.train_dataloader.dataset.loop == epochs
        assert cfg.default_hooks.checkpoint.save_best == "mIoU"

    def test_what_networks_read(self):
        for name in CONDAFORMERS:
            cfg = _load(name)
            backbone = _build_model(cfg).backbone
            assert isinstance(backbone, ConDaFormer)
            classes = cfg.model.decode_head.num_classes
            assert classes == {S3DIS: 13, SCANNET: 20, SCANNET200: 200}[name]
            size = cfg.model.data_preprocessor.voxel_layer.voxel_size
            assert size == [backbone.voxel_size] * 3
            for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
                if name != S3DIS:
                    assert loader.dataset.num_classes == classes
                pipeline = {t.type.split(".")[1]: t for t in loader.dataset.pipeline}
                sampler = pipeline.get("GridSample") or pipeline["TestTimeFragments"]
                assert sampler.voxel_size == backbone.voxel_size
                columns = 3 * len(pipeline["PackPointInputs"].feat_keys)
                assert columns == backbone.in_channels

    def test_schedule(self):
        for name in CONDAFORMERS:
            rates = _schedule(_load(name), 5)
            expected = np.array([1.0] * 300 + [0.1] * 100 + [0.01] * 100)
            if name != S3DIS:
                # from 1e-6 on, over 2 % of the iterations
                expected[:10] = 1e-6 + (1 - 1e-6) * np.arange(10) / 9
            np.testing.assert_allclose(rates, expected, rtol=1e-6)


class TestFlatFormer:
    @pytest.mark.parametrize("name", FLATFORMERS)
    def test_recipe(self, name):
        cfg = _load(name)
        model = _build_model(cfg)
        assert isinstance(model.middle_encoder, FlatFormer)
        options, wrapper = _options(cfg, model)
        for parameter, option in options.items():
            assert option == (1e-5, 0.0 if "norm" in parameter else 0.05)
        assert {"voxel_encoder.vfe_layers.0.norm.weight", "backbone.blocks.0.0.1.weight"} <= set(
            options
        )
        assert wrapper.clip_grad_kwargs == {"max_norm": 10, "norm_type": 2}
        assert cfg.optim_wrapper.optimizer.betas == (0.9, 0.999)
        assert cfg.train_cfg.max_epochs == (12 if name == WAYMO_D5 else 24)
        interval = cfg.train_dataloader.dataset.get("load_interval", 1)
        assert interval == (5 if name == WAYMO_D5 else 1)
        assert "load_interval" not in cfg.val_dataloader.dataset

    @pytest.mark.parametrize("name", [WAYMO, WAYMO_D5])
    def test_schedule(self, name):
        rates = _schedule(_load(name), 50)
        total = len(rates)
        rising = total // 10
        up, down = np.arange(rising), np.arange(total - rising)
        expected = np.concatenate(
            (
                100 - 99 * (1 + np.cos(math.pi * up / rising)) / 2,
                1e-3 + (100 - 1e-3) * (1 + np.cos(math.pi * down / (total - rising))) / 2,
            )
        )
        np.testing.assert_allclose(rates, expected, rtol=1e-3)

    def test_what_the_network_reads(self):
        for name in FLATFORMERS:
            cfg = _load(name)
            model = cfg.model
            layer = model.data_preprocessor.voxel_layer
            for part in (model.voxel_encoder, model.bbox_head):
                assert part.point_cloud_range == layer.point_cloud_range == cfg.point_cloud_range
                assert part.voxel_size == layer.voxel_size
            assert cfg.class_names == ["Car", "Pedestrian", "Cyclist"]
            for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
                keys = loader.dataset.pipeline[-1].feat_keys
                last = "elongation" if name in (WAYMO, WAYMO_D5) else "time"
                assert tuple(keys) == ("coord", "intensity", last)

    @pytest.mark.parametrize("frames", WAYMO_FRAMES)
    def test_several_sweeps(self, frames):
        one, cfg = _load(WAYMO), _load(WAYMO_FRAMES[frames])
        for kind, close in (("train", 5.0), ("val", 1.0), ("test", 1.0)):
            pipeline = cfg[f"{kind}_dataloader"].dataset.pipeline
            assert pipeline[1].type == "mmeffvit.LoadPointsFromMultiSweeps"
            assert (pipeline[1].sweeps_num, pipeline[1].remove_close) == (frames - 1, close)
            # the rest is that of one sweep
            rest = [t.type for t in pipeline[:1] + pipeline[2:]]
            assert rest == [t.type for t in one[f"{kind}_dataloader"].dataset.pipeline]
        paths = {
            t.info_path
            for c in (one, cfg)
            for t in c.train_dataloader.dataset.pipeline
            if t.type == "mmeffvit.ObjectSample"
        }
        assert len(paths) == 2

    def test_the_database_is_asked_for(self):
        sample = _load(WAYMO).train_dataloader.dataset.pipeline[1]
        assert sample.sample_groups == {"Car": 15, "Pedestrian": 10, "Cyclist": 10}
        assert sample.min_points == {"Car": 5, "Pedestrian": 10, "Cyclist": 10}
        with pytest.raises(FileNotFoundError, match=r"build_object_database\.py"):
            ObjectSample(**{key: value for key, value in sample.items() if key != "type"})


def _room(count, keys):
    generator = np.random.default_rng(0)
    arrays = {
        "coord": generator.random((count, 3), np.float32),
        "color": generator.random((count, 3), np.float32) * 255,
        "normal": generator.random((count, 3), np.float32),
    }
    labels = generator.integers(0, 13, count)
    return {**{key: arrays[key] for key in keys}, "pts_semantic_mask": labels}


def _batch(cfg):
    """Raw rooms through the config's pipeline, and its reading of files left out."""
    np.random.seed(0)  # noqa: NPY002  what pipelines draw from
    _, *transforms = cfg.train_dataloader.dataset.pipeline
    pipeline, keys = Compose(transforms), transforms[-1].feat_keys
    return pseudo_collate([pipeline(_room(count, keys)) for count in (300, 200)])


def test_a_segmentor_takes_a_step():
    """From raw rooms to moved parameters, and back to raw points."""
    cfg = _load(S3DIS)
    arch = copy.deepcopy(ConDaFormer.arch_zoo["s3dis"])
    arch.update(stem_dims=16, embed_dims=(48,) * 3, depths=(1,) * 3, decoder_dims=(48,) * 3)
    cfg.model.backbone.arch = arch
    model = revert_sync_batchnorm(MODELS.build(cfg.model)).train()
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    log = model.train_step(_batch(cfg), wrapper)
    assert log["loss"].isfinite()
    still = [name for name, p in model.named_parameters() if torch.equal(p, before[name])]
    assert still == []

    _, *transforms = cfg.val_dataloader.dataset.pipeline
    batch = pseudo_collate([Compose(transforms)(_room(150, ("coord", "color")))])
    (sample,) = model.eval().val_step(batch)
    assert sample.pred_pts_seg.pts_semantic_mask.shape == (150,)


def test_rooms_of_scannet_reach_the_network():
    cfg = _load(SCANNET)
    data = MODELS.build(cfg.model.data_preprocessor)(_batch(cfg), training=True)
    voxels, coors = data["inputs"]["voxels"].values()
    with torch.device("meta"):
        backbone = MODELS.build(cfg.model.backbone)
    # what the network checks of its input
    level = backbone.finest_level(voxels, coors)
    assert len(level) == len(voxels) > 300
    assert voxels[:, 6:].abs().max() <= 1


def test_variants_of_the_vote():
    kinds = itertools.chain.from_iterable(
        cfg.test_dataloader.dataset.pipeline for cfg in (_load(S3DIS), _load(SCANNET))
    )
    variants = [len(t.variants) for t in kinds if t.type == "mmeffvit.TestTimeFragments"]
    assert variants == [12, 13]
