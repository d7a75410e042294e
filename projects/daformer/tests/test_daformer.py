"""DAFormer's adaptation: the authors' numbers, formulas written out, training that resumes."""

import copy
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import MomentumAnnealingEMA
from mmengine.registry import DATASETS, MODELS, DefaultScope
from mmengine.structures import PixelData
from mmseg.models import EncoderDecoder
from mmseg.structures import SegDataSample
from PIL import Image

from mmeffvit.engine import launch, resume
from mmeffvit.testing.golden import read_golden
from projects.daformer.daformer import (
    Augmentation,
    blur_size,
    choose_classes,
    class_mask,
    class_probabilities,
    downscaled_labels,
    ensure_domain,
    feature_distance,
    kept_counts,
    pseudo_labels,
    thing_cells,
)
from projects.daformer.daformer.scenes import PHOTOGRAPHS, fewer

PROJECT = Path(__file__).resolve().parents[1]
GOLDEN = PROJECT.parents[1] / "tests/data/golden/daformer.npz"
ADAPTED = PROJECT / "configs/daformer_rmt_1xb8-800_digits-64.py"
ADAPTATION = ("momentum", "threshold", "distance")
SMALL = {
    "embed_dims": (4, 8, 8, 8),
    "depths": (1, 1, 1, 1),
    "num_heads": (1, 1, 1, 1),
    "mlp_ratios": (1, 1, 1, 1),
}


@pytest.fixture(scope="module")
def golden():
    meta, tensors = read_golden(GOLDEN)
    start = "uda/"
    return meta["cfg"], {k[len(start) :]: v for k, v in tensors.items() if k.startswith(start)}


def test_feature_distance_is_the_authors(golden):
    cfg, tensors = golden
    features, start = (tensors[f"fdist/feat_{name}"] for name in ("student", "imagenet"))
    labels = tensors["seg_label"][:, 0]
    coarse = downscaled_labels(labels, 16, cfg["num_classes"], cfg["min_ratio"])
    assert torch.equal(coarse, tensors["fdist/label_down"][:, 0])
    cells = thing_cells(labels, (4, 4), cfg["num_classes"], cfg["fd_classes"], cfg["min_ratio"])
    assert torch.equal(cells, tensors["fdist/mask"][:, 0])
    for mask, name in ((cells, "masked"), (torch.ones_like(cells), "all")):
        found = feature_distance(features, start, mask)
        torch.testing.assert_close(found, tensors[f"fdist/dist_{name}"], atol=1e-5, rtol=1e-6)


def test_mixing_is_the_authors(golden):
    cfg, tensors = golden
    labels, weights = pseudo_labels(
        tensors["mix/teacher_logits"], cfg["tau"], cfg["top"], cfg["bottom"]
    )
    assert torch.equal(labels, tensors["mix/pseudo_label"])
    torch.testing.assert_close(weights, tensors["mix/pseudo_weight"])
    source = tensors["seg_label"][:, 0]
    chosen = [tensors[f"mix/chosen_classes/{i}"] for i in range(2)]
    mask = class_mask(source, chosen)
    assert torch.equal(mask[:, None].long(), tensors["mix/mask"])
    assert torch.equal(torch.where(mask, source, labels), tensors["mix/mixed_label"][:, 0])
    # as many as the authors choose
    assert [len(own) for own in choose_classes(source)] == [len(own) for own in chosen]


def test_rare_classes_and_the_teacher_are_the_authors(golden):
    cfg, tensors = golden
    pixels = np.zeros(6)
    pixels[tensors["rcs/pixel_count_class"]] = tensors["rcs/pixel_count"]
    found = class_probabilities(pixels, cfg["rcs_T"])
    expected = tensors["rcs/prob"].numpy()
    np.testing.assert_allclose(found[tensors["rcs/classes_sorted"]], expected, rtol=1e-5)
    student = torch.nn.Linear(3, 4, bias=False)
    student.weight.data.copy_(tensors["ema/init"])
    teacher = MomentumAnnealingEMA(student, momentum=1 - cfg["ema_alpha"], gamma=1)
    teacher.update_parameters(student)
    for weight, expected in zip(tensors["ema/student"], tensors["ema/teacher"]):
        student.weight.data.copy_(weight)
        teacher.update_parameters(student)
        torch.testing.assert_close(teacher.module.weight.data, expected)


def test_class_probabilities_written_out():
    pixels = np.array([60, 30, 10, 0])
    expected = np.exp((1 - pixels / 100) / 0.1)
    np.testing.assert_allclose(class_probabilities(pixels, 0.1), expected / expected.sum())
    # the smallest temperatures do not overflow
    assert class_probabilities(pixels, 1e-5).tolist() == [0, 0, 0, 1]


def test_shares_of_cells():
    """A class must fill its share exactly; pixels without a label are a class of their own."""
    labels = torch.full((1, 4, 10), 255)
    labels[0, :3, :4] = 1  # three quarters of the first cell
    labels[0, 0, 4:8], labels[0, 1, 4] = 0, 1  # the second is mostly unknown
    labels[0, :, 8:] = 1  # less than a cell
    assert downscaled_labels(labels, 4, 2).tolist() == [[[1, 255]]]
    assert downscaled_labels(labels, 4, 2, min_share=0.76).tolist() == [[[255, 255]]]
    # a map of ceil(10 / 4) columns
    assert thing_cells(labels, (1, 3), 2, [1]).tolist() == [[[True, False, False]]]
    assert not thing_cells(labels, (1, 3), 2, [0]).any()
    nothing = torch.zeros(1, 1, 3, dtype=torch.bool)
    features = torch.randn(1, 2, 1, 3, requires_grad=True)
    distance = feature_distance(features, features.detach(), nothing)
    distance.backward()
    assert distance == 0
    assert features.grad.eq(0).all()


def test_confidence_counts_from_the_threshold_on():
    probabilities = torch.tensor([0.5, 0.75, 0.5, 0.9])
    logits = torch.stack([probabilities.log(), (1 - probabilities).log()])[None, :, :, None]
    labels, weights = pseudo_labels(logits, float(logits.softmax(1)[0, 0, 1, 0]), ignore_bottom=1)
    assert labels.shape == weights.shape == (1, 4, 1)
    assert weights[0, :, 0].tolist() == [0.5, 0.5, 0.5, 0]


def test_classes_are_those_of_the_batch():
    labels = torch.tensor([[[0, 1]], [[1, 255]]])
    torch.manual_seed(0)
    drawn = [choose_classes(labels) for _ in range(60)]
    assert {len(own) for classes in drawn for own in classes} == {2}
    # 255 comes up for the first image, too, which does not show it
    assert {int(value) for first, _ in drawn for value in first} == {0, 1, 255}
    assert any(not torch.equal(a, b) for a, b in drawn)
    mask = class_mask(labels, [torch.tensor([255, 1]), torch.tensor([0, 1])])
    assert mask.tolist() == [[[False, True]], [[True, False]]]


def test_augmentation():
    assert [blur_size(side) for side in (32, 64, 96, 500, 512)] == [3, 7, 9, 49, 51]
    mean, std = torch.tensor([[120.0, 110.0, 100.0], [60.0, 50.0, 40.0]])[..., None, None]
    images = torch.rand(2, 3, 32, 40) * 2 - 1

    def changed(jitter, blur, **options):
        augment = Augmentation(jitter_share=jitter, blur_share=blur, **options)
        return augment(images, mean, std)

    assert torch.equal(changed(0, 0), images)
    # with no strength colours go to [0, 1] and back
    torch.testing.assert_close(changed(1, 0, strength=0), images, atol=1e-4, rtol=1e-4)
    assert (changed(1, 0) - images).abs().mean() > 0.02
    soft = changed(0, 1)
    assert soft.var() < images.var()
    torch.testing.assert_close(soft.mean(), images.mean(), atol=0.02, rtol=0)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """The adaptation with a small network and 14 images of each domain."""
    root = tmp_path_factory.mktemp("domains")
    cfg = Config.fromfile(ADAPTED)
    pairs = cfg.train_dataloader.dataset
    parts = (pairs.source.dataset, pairs.target, cfg.val_dataloader.dataset)
    for part in parts:
        part.make.update(num_train=14, num_val=2, workers=1)
        part.data_root = str(root / Path(part.data_root).name)
    cfg.test_dataloader = cfg.val_dataloader
    pairs.source.min_pixels = 60
    cfg.train_dataloader.batch_size = cfg.val_dataloader.batch_size = 2
    cfg.model.backbone.arch.update(SMALL)
    del cfg.model.backbone.init_cfg
    cfg.model.backbone.drop_path_rate = 0.2
    cfg.model.decode_head.update(in_channels=[4, 8, 8, 8], embed_dims=8, channels=8)
    cfg.train_cfg = {"type": "IterBasedTrainLoop", "max_iters": 2, "val_interval": 9}
    cfg.param_scheduler = None
    cfg.default_hooks.checkpoint.update(interval=1, max_keep_ckpts=-1)
    return cfg


@pytest.fixture
def model(config):
    with DefaultScope.overwrite_default_scope("mmseg"):
        return MODELS.build(config.model).train()


def built(dataset, **options):
    with DefaultScope.overwrite_default_scope("mmseg"):
        return DATASETS.build({**dataset, **options})


def batch_of(model, count=2):
    torch.manual_seed(1)
    images = torch.randint(0, 256, (2, count, 3, 64, 64), dtype=torch.uint8)
    labels = torch.randint(0, 6, (count, 1, 1, 1)).expand(-1, -1, 64, 64).clone()
    labels[:, :, 40:] = 6
    halves = {}
    for name, own in zip(("source", "target"), images):
        samples = [SegDataSample() for _ in own]
        if name == "source":
            for sample, label in zip(samples, labels):
                sample.gt_sem_seg = PixelData(data=label)
        halves[name] = {"inputs": list(own), "data_samples": samples}
    return model.data_preprocessor(halves, training=True)


def test_losses_are_the_sum_of_their_parts(model):
    batch = batch_of(model)
    torch.manual_seed(3)
    losses = model(**batch, mode="loss")
    assert set(losses) == {
        "decode.loss_ce", "decode.acc_seg", "loss_distance", "mix.decode.loss_ce",
        "mix.decode.acc_seg",
    }  # fmt: skip
    # the backbone is where it started but for its drop path, and the teacher is the student
    assert model.teacher.steps == 1
    for name, value in model.teacher.module.named_parameters():
        assert torch.equal(value, model.get_parameter(name))
    sum(value for name, value in losses.items() if "loss" in name).backward()
    for name, parameter in model.named_parameters():
        frozen = name.startswith(("teacher.", "start."))
        assert parameter.requires_grad is not frozen
        assert (parameter.grad is None) is frozen, name


def test_distance_written_out(model):
    """From features that were moved: the mean over cells that things fill of their lengths."""
    batch = batch_of(model)
    model(**batch, mode="loss")
    model.eval()  # without drop path
    model.backbone.load_state_dict(model.start.state_dict())
    images = batch["inputs"]["source"]
    labels = torch.cat([s.gt_sem_seg.data for s in batch["data_samples"]["source"]])
    features = model.backbone(images)
    assert model._distance(images, features, labels) == 0
    moved = [features[0], features[1] + torch.randn_like(features[1]), *features[2:]]
    total, count = 0.0, 0
    shift = (moved[1] - features[1]).detach().numpy()
    for b in range(2):
        for y in range(8):
            for x in range(8):
                cell = labels[b, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8].flatten().tolist()
                winner = max(set(cell), key=cell.count)
                if winner < 6 and cell.count(winner) >= 32:
                    total, count = total + np.sqrt((shift[b, :, y, x] ** 2).sum()), count + 1
    assert 0 < count < 128
    found = model._distance(images, moved, labels)
    assert found.item() == pytest.approx(0.005 * total / count, rel=1e-4)


def test_mixed_images_hold_both(model):
    batch = batch_of(model)
    model.augment = lambda images, mean, std: images
    model._keep_up()
    images = batch["inputs"]
    labels = torch.cat([s.gt_sem_seg.data for s in batch["data_samples"]["source"]])
    mixed, samples = model._mixed(images["source"], labels, images["target"])
    pasted = (mixed == images["source"]).all(1)
    assert 0 < pasted.float().mean() < 1
    assert torch.equal(mixed, torch.where(pasted[:, None], images["source"], images["target"]))
    weights = torch.cat([sample.seg_weight.data for sample in samples])
    found = torch.cat([sample.gt_sem_seg.data for sample in samples])
    assert weights[pasted].eq(1).all()
    # a teacher that knows nothing is sure of nothing
    assert weights[~pasted].eq(0).all()
    assert torch.equal(found[pasted], labels[pasted])
    # a sure one counts as far as it is sure
    model.labelling["threshold"] = 0.0
    _, samples = model._mixed(images["source"], labels, images["target"])
    assert torch.cat([sample.seg_weight.data for sample in samples]).eq(1).all()


def test_what_is_left_to_chance(model):
    kinds = {type(m).__name__: m.training for m in model.teacher.modules()}
    assert kinds["DropPath"] is kinds["Dropout2d"] is False
    assert kinds["BatchNorm2d"] is True
    assert not any(m.training for m in model.start.modules())
    student = {type(m).__name__: m.training for m in model.backbone.modules()}
    assert student["DropPath"] is True
    assert not any(m.training for m in model.eval().modules())


def test_what_does_not_fit_is_a_sentence(config):
    with DefaultScope.overwrite_default_scope("mmseg"):
        head = {"type": "FCNHead", "in_channels": 8, "channels": 8, "num_classes": 7}
        norm = {"norm_cfg": {"type": "BN"}, "in_index": 3}
        with pytest.raises(TypeError, match="FCNHead knows no weights of pixels"):
            MODELS.build({**config.model, "decode_head": {**head, **norm}})
        other = {**config.model.data_preprocessor, "type": "SegDataPreProcessor"}
        with pytest.raises(TypeError, match="got SegDataPreProcessor"):
            MODELS.build({**config.model, "data_preprocessor": other})
    pairs = config.train_dataloader.dataset
    with pytest.raises(ValueError, match="the target has labels"):
        built(pairs, target=pairs.source.dataset)
    with pytest.raises(ValueError, match="more than min_pixels=5000"):
        built(pairs.source, min_pixels=5000)


def test_pairs_with_rare_classes(config, tmp_path):
    pairs = copy.deepcopy(config.train_dataloader.dataset)
    pairs.source.counts_file = str(tmp_path / "counts.json")
    pairs = built(pairs)
    kept = json.loads((tmp_path / "counts.json").read_text())
    counts = np.array(kept["pixels"])
    plain = pairs.source.dataset
    labels = [sample["data_samples"].gt_sem_seg.data for sample in plain]
    assert counts.tolist() == [[int((own == c).sum()) for c in range(7)] for own in labels]
    # classes with an image of more than 60 pixels, by what all pixels say
    chances = class_probabilities(counts.sum(0), 0.05) * (counts > 60).any(0)
    chances /= chances.sum()
    np.testing.assert_allclose(pairs.source.probabilities, chances)
    assert len(pairs) == len(plain) == 14
    drawn = np.zeros(7)
    for _ in range(60):
        sample = pairs[0]
        assert "gt_sem_seg" not in sample["target"]["data_samples"]
        own = sample["source"]["data_samples"].gt_sem_seg.data
        drawn += [int((own == c).sum()) > 60 for c in range(7)]
    assert drawn[chances > 0.05].all()
    kept["files"][0] = "other.png"
    (tmp_path / "counts.json").write_text(json.dumps(kept))
    with pytest.raises(ValueError, match="another data set"):
        kept_counts(plain, tmp_path / "counts.json")


def run(config, work_dir, iterations, resuming=False):
    cfg = copy.deepcopy(config)
    cfg.work_dir = str(work_dir)
    cfg.train_cfg = {**config.train_cfg, "max_iters": iterations}
    cfg.experiment_name = f"{work_dir.name}_{iterations}"
    notes = resume.set_resume(cfg, "auto" if resuming else None)
    runner = launch.build_runner(cfg, notes)
    runner.train()
    return runner


def test_training_resumes_with_its_teacher(config, tmp_path):
    """A step and one more end with the weights of two, of the teacher and the start, too."""
    whole = run(config, tmp_path / "whole", 2)
    for iterations in (1, 2):
        resumed = run(config, tmp_path / "parts", iterations, resuming=iterations == 2)
    expected, found = (runner.model.state_dict() for runner in (whole, resumed))
    assert expected["teacher.steps"] == 2
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name

    # three networks that have moved apart
    key = next(name for name in expected if name.startswith("start.") and "weight" in name)
    own = [key, *(f"{place}backbone.{key[6:]}" for place in ("", "teacher.module."))]
    begun, student, teacher = (expected[name] for name in own)
    far, near = (begun - student).norm(), (teacher - student).norm()
    assert far > near > 0
    # a plain segmentor takes the student's weights
    plain = {k: v for k, v in config.model.items() if k not in ("type", *ADAPTATION)}
    with DefaultScope.overwrite_default_scope("mmseg"):
        missing, unexpected = EncoderDecoder(**plain).load_state_dict(expected, strict=False)
    assert not missing
    assert all(name.startswith(("teacher.", "start.")) for name in unexpected)


@pytest.mark.parametrize("path", sorted(PROJECT.glob("configs/*.py")), ids=lambda path: path.stem)
def test_configs(path):
    cfg = Config.fromfile(path)
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device("meta"):
        MODELS.build(cfg.model)


def test_scenes(tmp_path):
    """Photographs are in one split alone; rare digits are rare in training, not in what counts."""
    assert not set(PHOTOGRAPHS["train"]) & set(PHOTOGRAPHS["val"])
    options = {"num_train": 30, "num_val": 12, "rare": (1, 8), "rare_share": 50, "workers": 1}
    options["digits"] = (1, 3, 8)
    root = tmp_path / "domain"
    assert ensure_domain(root, True, **options)
    assert not ensure_domain(root, True, **options)
    images, labels = (
        {
            split: [np.asarray(Image.open(f)) for f in sorted((root / kind / split).iterdir())]
            for split in ("training", "validation")
        }
        for kind in ("images", "annotations")
    )
    assert {image.shape for image in images["training"]} == {(64, 64, 3)}

    def showing(split, digit):
        return sum((label == digit + 1).any() for label in labels[split])

    # label 0 is not labelled, 11 no digit
    assert set(np.unique(labels["training"])) <= {2, 4, 9, 11}
    assert showing("training", 3) > 20
    assert showing("training", 1) + showing("training", 8) < 10
    assert min(showing("validation", digit) for digit in (1, 3, 8)) > 2
    # another domain takes the place
    assert ensure_domain(root, False, **options)
    drawn = [np.asarray(Image.open(f)) for f in sorted((root / "images/training").iterdir())]
    # every second one is plain, but for its digits
    assert np.median([np.median(image.std(-1)) for image in drawn[1::2]]) < 6
    scans = (np.zeros((6, 8, 8)), np.array([0, 1, 1, 1, 2, 1]), np.arange(6))
    assert fewer(scans, (0, 1), (1,), 2)[2].tolist() == [0, 1, 3]
    assert fewer(scans, (0, 1), (), 2)[2].tolist() == [0, 1, 2, 3, 5]


def test_comparison(config, tmp_path, monkeypatch, capsys):
    """Runs have their rows once, rows their scores, and the picture its columns."""
    spec = importlib.util.spec_from_file_location("compare", PROJECT / "compare.py")
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    config.dump(tmp_path / "small.py")
    methods = {"source-only": tmp_path / "small.py", "daformer": tmp_path / "small.py"}
    monkeypatch.setattr(program, "METHODS", methods)
    started = []

    def train(path, work_dir, seed):
        started.append((work_dir.name, seed))
        work_dir.mkdir(exist_ok=True)
        if path != program.START:
            with DefaultScope.overwrite_default_scope("mmseg"):
                model = MODELS.build(Config.fromfile(path).model)
            torch.save({"state_dict": model.state_dict()}, work_dir / "iter_2.pth")
        return work_dir / "iter_2.pth"

    monkeypatch.setattr(program, "train", train)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "work_dirs").mkdir()
    arguments = ["--work-dir", str(tmp_path / "runs"), "--images", "2", "--seeds"]
    program.main([*arguments, "3"])
    program.main([*arguments, "3", "4"])
    names = ["start_rmt_digits-64", "source-only_3", "daformer_3"]
    later = [names[0], "source-only_4", "daformer_4"]
    assert [name for name, _ in started] == [*names, *later]
    assert [seed for _, seed in started] == [0, 3, 3, 0, 4, 4]
    rows = program.read_rows(tmp_path / "runs/results.csv")
    classes = [*"012345", "background"]
    assert list(rows[0]) == ["method", "seed", *classes, "mIoU"]
    for row in rows:
        found = [float(row[name]) for name in classes]
        assert float(row["mIoU"]) == pytest.approx(np.nanmean(found), abs=0.01)
    # two images of 64 pixels in frames, twice as large: image, labels, two predictions
    assert Image.open(tmp_path / "runs/predictions.png").size == (4 * 132, 2 * 132)
    assert "| daformer | 2 |" in capsys.readouterr().out
