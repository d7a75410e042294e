# KITTI object detection in its own folders; splits are lists in ImageSets/. The object database is
# written by tools/build_object_database.py.
_base_ = "worker_loaders.py"

dataset_type = "mmeffvit.KittiSweepDataset"
data_root = "data/kitti/"
class_names = ["Pedestrian", "Cyclist", "Car"]
point_cloud_range = [0, -39.68, -3, 69.12, 39.68, 1]
# points on the lowest and highest face would fall out of the only layer of pillars
points_range = [0, -39.68, -2.999, 69.12, 39.68, 0.999]
feat_keys = ("coord", "intensity")

load_points = [
    dict(type="mmeffvit.LoadPointsFromFile", load_dim=4, use_dim=4),
    # objects are labelled where the camera sees them
    dict(type="mmeffvit.CameraViewFilter"),
]
train_pipeline = [
    *load_points,
    dict(
        type="mmeffvit.ObjectSample",
        info_path=data_root + "kitti_objects_train.safetensors",
        classes=class_names,
        sample_groups=dict(Car=15, Pedestrian=10, Cyclist=10),
        min_points=dict(Car=5, Pedestrian=10, Cyclist=10),
    ),
    dict(type="mmeffvit.RandomFlip3D", flip_ratio_bev_horizontal=0.5),
    dict(
        type="mmeffvit.GlobalRotScaleTrans",
        rot_range=[-0.78539816, 0.78539816],
        scale_ratio_range=[0.95, 1.05],
    ),
    dict(type="mmeffvit.PointsRangeFilter", point_cloud_range=points_range),
    dict(type="mmeffvit.ObjectRangeFilter", point_cloud_range=point_cloud_range),
    dict(type="mmeffvit.PointShuffle"),
    dict(type="mmeffvit.PackPointInputs", feat_keys=feat_keys),
]
test_pipeline = [
    *load_points,
    dict(type="mmeffvit.PointsRangeFilter", point_cloud_range=points_range),
    dict(type="mmeffvit.PackPointInputs", feat_keys=feat_keys),
]

train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file="ImageSets/train.txt",
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file="ImageSets/val.txt",
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(
    type="mmeffvit.PointDetMetric",
    iou_thrs=dict(Car=0.7, Pedestrian=0.5, Cyclist=0.5),
    point_cloud_range=[0, -39.68, -3, 69.12, 39.68, 1],
)
test_evaluator = val_evaluator
