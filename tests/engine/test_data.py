from pathlib import Path

import pytest
from mmengine.config import Config

from mmeffvit.engine.data import check_data, find_missing_data, set_data_root
from mmeffvit.engine.errors import LaunchError
from mmeffvit.engine.launch import apply_options

ROOT = Path(__file__).parents[2]


def coco(split, root="data/coco/"):
    return {
        "type": "CocoDataset",
        "data_root": root,
        "ann_file": f"annotations/{split}.json",
        "data_prefix": {"img": f"{split}/"},
    }


def make_cfg(train=None, **kwargs):
    """Shaped as Config.fromfile makes it of mmdet's coco_instance.py."""
    return Config(
        {
            "data_root": "data/coco/",
            "train_dataloader": {"dataset": train or coco("train")},
            "val_dataloader": {"dataset": coco("val")},
            "val_evaluator": [
                {"type": "CocoMetric", "ann_file": "data/coco/annotations/val.json"},
                {"type": "CocoPanopticMetric", "seg_prefix": "./data/coco/annotations/val/"},
            ],
            **kwargs,
        }
    )


def write_coco(root):
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"{split}.json").write_text("{}")
    return str(root)


WRAPPED = {
    "RepeatDataset": {"type": "RepeatDataset", "times": 3, "dataset": coco("train")},
    "ClassBalancedDataset": {"type": "ClassBalancedDataset", "dataset": coco("train")},
    "MultiImageMixDataset": {
        "type": "MultiImageMixDataset",
        "dataset": {"type": "RepeatDataset", "dataset": coco("train")},
    },
    "ConcatDataset": {"type": "ConcatDataset", "datasets": [coco("train"), coco("val")]},
}


@pytest.mark.parametrize("wrapper", [None, *WRAPPED])
def test_missing_data_is_found_in_wrappers(tmp_path, wrapper, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = make_cfg(WRAPPED.get(wrapper))
    missing = find_missing_data(cfg, ["train"])
    assert missing[0] == ("annotation file", "data/coco/annotations/train.json")
    assert ("image folder", "data/coco/train/") in missing
    set_data_root(cfg, write_coco(tmp_path / "there"))
    assert (
        find_missing_data(cfg, ["train", "val"])
        == [
            # only a folder of PNG files could stand here
        ]
    )


def test_evaluator_and_folder_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = make_cfg()
    write_coco(tmp_path / "data" / "coco")
    assert find_missing_data(cfg, ["train", "val"]) == []
    cfg.val_evaluator[0].ann_file = "other.json"
    (tmp_path / "data" / "coco" / "train").rmdir()
    assert find_missing_data(cfg, ["train", "val"]) == [
        ("image folder", "data/coco/train/"),
        ("evaluator's annotation file", "other.json"),
    ]


def test_the_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LaunchError) as error:
        check_data(make_cfg(), ["train", "val"])
    message = str(error.value)
    assert "annotation file data/coco/annotations/train.json is missing" in message
    assert str(tmp_path / "data" / "coco" / "annotations" / "train.json") in message
    assert "`make demo`" in message
    assert "tools/export_digits.py --layout coco" in message
    assert message.count(". ") == 0
    assert message.endswith(".")
    write_coco(tmp_path / "data" / "coco")
    check_data(make_cfg(), ["train", "val"])


def test_folders_of_ade20k(tmp_path):
    from mmeffvit.engine.launch import load_config

    cfg = load_config("mmseg::_base_/datasets/ade20k.py")
    cfg.default_scope = "mmseg"
    set_data_root(cfg, str(tmp_path))
    assert [kind for kind, _ in find_missing_data(cfg, ["train", "val"])] == [
        "image folder",
        "folder of label maps",
    ] * 2
    with pytest.raises(LaunchError, match=r"--layout ade20k --out data/digits_ade20k` and then --"):
        check_data(cfg, ["train"])
    for split in ("training", "validation"):
        for part in ("images", "annotations"):
            (tmp_path / part / split).mkdir(parents=True)
    check_data(cfg, ["train", "val"])


@pytest.mark.parametrize(
    "dataset",
    [
        {"type": "mmeffvit.DigitsSegDataset", "data_prefix": {"img_path": "nowhere"}},
        {"type": "mmeffvit.DigitsDataset", "data_root": "nowhere", "ann_file": "a.json"},
        {"type": "CocoDataset", "data_root": "s3://bucket/coco", "ann_file": "a.json"},
        {"type": "CocoDataset", "ann_file": "a.json", "backend_args": {"backend": "petrel"}},
        {"type": "mmeffvit.KittiSweepDataset", "data_root": "nowhere", "ann_file": "a", "make": {}},
        {"type": "mmeffvit.S3DISRoomDataset", "data_root": "nowhere", "make": True},
        {"type": "Custom"},
    ],
)
def test_what_cannot_be_missing(dataset):
    cfg = Config({"train_dataloader": {"dataset": dataset}})
    assert find_missing_data(cfg, ["train"]) == []


def test_digits_that_must_be_there():
    dataset = {"type": "mmeffvit.DigitsDataset", "ann_file": "nowhere.json", "make": False}
    cfg = Config({"train_dataloader": {"dataset": dataset}})
    assert find_missing_data(cfg, ["train"]) == [("annotation file", "nowhere.json")]


def test_point_clouds_that_must_be_there(tmp_path):
    cfg = Config.fromfile(ROOT / "configs/_base_/datasets/kitti_sweeps.py")
    cfg.default_scope = "mmeffvit"
    set_data_root(cfg, str(tmp_path))
    cfg.val_dataloader.dataset.data_prefix = {"pts": "velodyne", "label": "label_2"}
    assert find_missing_data(cfg, ["train", "val"]) == [
        ("annotation file", f"{tmp_path}/ImageSets/train.txt"),
        ("object database", f"{tmp_path}/kitti_objects_train.safetensors"),
        ("annotation file", f"{tmp_path}/ImageSets/val.txt"),
        ("folder of points", f"{tmp_path}/velodyne"),
        ("folder of labels", f"{tmp_path}/label_2"),
    ]
    with pytest.raises(LaunchError, match=r"or train without it by `make demo-points`.$"):
        check_data(cfg, ["train"])
    (tmp_path / "ImageSets").mkdir()
    (tmp_path / "ImageSets" / "train.txt").touch()
    with pytest.raises(LaunchError, match=r"object database .* tools/build_object_database.py"):
        check_data(cfg, ["train"])
    rooms = {"type": "mmeffvit.S3DISRoomDataset", "data_root": "nowhere"}
    cfg = Config({"train_dataloader": {"dataset": rooms}})
    assert find_missing_data(cfg, ["train"]) == [("folder of rooms", "nowhere")]


def test_string_prefix_of_mmpretrain():
    dataset = {"type": "ImageNet", "data_root": "nowhere", "data_prefix": "train"}
    cfg = Config({"train_dataloader": {"dataset": dataset}})
    assert find_missing_data(cfg, ["train"]) == [("image folder", "nowhere/train")]


def test_split_of_mmpretrain():
    dataset = {"type": "ImageNet", "data_root": "nowhere", "split": "val"}
    cfg = Config({"default_scope": "mmpretrain", "val_dataloader": {"dataset": dataset}})
    with pytest.raises(LaunchError) as error:
        check_data(cfg, ["train", "val"])
    assert "The image folder nowhere/val is missing" in str(error.value)
    assert "digits in ImageNet's layout" in str(error.value)
    assert "tools/export_digits.py --layout imagenet --out data/digits_imagenet" in str(error.value)


@pytest.mark.parametrize("new", ["/abs/new", "data/coco/sub", "data/coco2"])
@pytest.mark.parametrize("by_option", [True, False])
def test_data_root_moves_everything(new, by_option):
    cfg = make_cfg(WRAPPED["ConcatDataset"])
    if by_option:
        apply_options(cfg, {"data_root": new, "val_dataloader.batch_size": 5})
        assert cfg.val_dataloader.batch_size == 5
    else:
        apply_options(cfg, data_root=new)
    roots = [d.data_root for d in cfg.train_dataloader.dataset.datasets]
    assert roots == [new, new]
    assert cfg.val_dataloader.dataset.data_root == cfg.data_root == new
    assert cfg.val_dataloader.dataset.ann_file == "annotations/val.json"
    assert cfg.val_evaluator[0].ann_file == f"{new}/annotations/val.json"
    assert cfg.val_evaluator[1].seg_prefix == f"{new}/annotations/val/"


def test_options_for_one_dataset_still_count():
    cfg = make_cfg()
    apply_options(cfg, {"data_root": "new", "train_dataloader.dataset.data_root": "other"})
    assert cfg.train_dataloader.dataset.data_root == "other"
    assert cfg.val_dataloader.dataset.data_root == "new"


def test_several_roots_are_refused():
    cfg = make_cfg(coco("train", root="data/lvis"))
    with pytest.raises(LaunchError, match=r"data/coco, data/lvis"):
        set_data_root(cfg, "new")
    with pytest.raises(LaunchError, match="found: none"):
        set_data_root(Config({"train_dataloader": {"dataset": {"type": "Custom"}}}), "new")


def test_upstream_config(tmp_path):
    from mmeffvit.engine.launch import load_config

    cfg = load_config("mmdet::_base_/datasets/coco_instance.py")
    set_data_root(cfg, str(tmp_path))
    for split in ("train", "val", "test"):
        assert cfg[f"{split}_dataloader"].dataset.data_root == str(tmp_path)
    for split in ("val", "test"):
        expected = str(tmp_path / "annotations" / "instances_val2017.json")
        assert cfg[f"{split}_evaluator"].ann_file == expected
