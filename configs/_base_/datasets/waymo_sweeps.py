# Waymo Open Dataset as mmdet3d's converter writes it, one sweep at a time: the recipe of FlatFormer
# (arXiv 2301.08739). The object database is written by tools/build_object_database.py.
_base_ = "worker_loaders.py"

dataset_type = "mmeffvit.WaymoSweepDataset"
data_root = "data/waymo/kitti_format/"
class_names = ["Car", "Pedestrian", "Cyclist"]
point_cloud_range = [-74.88, -74.88, -2, 74.88, 74.88, 4.0]
# points on the lowest and highest face would fall out of the only layer of pillars
points_range = [-74.88, -74.88, -1.999, 74.88, 74.88, 3.999]
feat_keys = ("coord", "intensity", "elongation")

load_points = dict(
    type="mmeffvit.LoadPointsFromFile",
    load_dim=6,
    use_dim=5,
    norm_intensity=True,
    norm_elongation=True,
)
train_pipeline = [
    load_points,
    dict(
        type="mmeffvit.ObjectSample",
        info_path=data_root + "waymo_objects_train.safetensors",
        classes=class_names,
        sample_groups=dict(Car=15, Pedestrian=10, Cyclist=10),
        min_points=dict(Car=5, Pedestrian=10, Cyclist=10),
    ),
    dict(
        type="mmeffvit.RandomFlip3D",
        flip_ratio_bev_horizontal=0.5,
        flip_ratio_bev_vertical=0.5,
    ),
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
    load_points,
    dict(type="mmeffvit.PointsRangeFilter", point_cloud_range=points_range),
    dict(type="mmeffvit.PackPointInputs", feat_keys=feat_keys),
]

train_dataloader = dict(
    batch_size=1,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file="waymo_infos_train.pkl",
        data_prefix=dict(pts="training/velodyne"),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file="waymo_infos_val.pkl",
        data_prefix=dict(pts="training/velodyne"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

# not Waymo's own metric: precision at 40 recalls of boxes with a LiDAR point (its level 2)
val_evaluator = dict(
    type="mmeffvit.PointDetMetric", iou_thrs=dict(Car=0.7, Pedestrian=0.5, Cyclist=0.5)
)
test_evaluator = val_evaluator
