# LiDAR sweeps of made-up streets in KITTI's layout, written to data/sweeps on first use
# (some seconds). Cars, cyclists and pedestrians within 40 m ahead.
_base_ = "in_process_loaders.py"

dataset_type = "mmeffvit.KittiSweepDataset"
data_root = "data/sweeps/"
make = dict(num_train=160, num_val=40, seed=0)
point_cloud_range = [0, -20, -3, 40, 20, 2]
# points on the lowest and highest face would fall out of the only layer of pillars
points_range = [0, -20, -2.999, 40, 20, 1.999]
feat_keys = ("coord", "intensity")

train_pipeline = [
    dict(type="mmeffvit.LoadPointsFromFile", load_dim=4, use_dim=4),
    dict(type="mmeffvit.RandomFlip3D", flip_ratio_bev_horizontal=0.5),
    dict(
        type="mmeffvit.GlobalRotScaleTrans",
        rot_range=[-0.3, 0.3],
        scale_ratio_range=[0.95, 1.05],
    ),
    dict(type="mmeffvit.PointsRangeFilter", point_cloud_range=points_range),
    dict(type="mmeffvit.ObjectRangeFilter", point_cloud_range=point_cloud_range),
    dict(type="mmeffvit.PointShuffle"),
    dict(type="mmeffvit.PackPointInputs", feat_keys=feat_keys),
]
test_pipeline = [
    dict(type="mmeffvit.LoadPointsFromFile", load_dim=4, use_dim=4),
    dict(type="mmeffvit.PointsRangeFilter", point_cloud_range=points_range),
    dict(type="mmeffvit.PackPointInputs", feat_keys=feat_keys),
]

train_dataloader = dict(
    batch_size=4,
    sampler=dict(type="InfiniteSampler"),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        make=make,
        ann_file="ImageSets/train.txt",
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=8,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        make=make,
        ann_file="ImageSets/val.txt",
        difficulty=None,  # all that has a box has points
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

# KITTI's looser overlaps
val_evaluator = dict(
    type="mmeffvit.PointDetMetric",
    iou_thrs=dict(Car=0.5, Pedestrian=0.25, Cyclist=0.25),
    point_cloud_range=point_cloud_range,
)
test_evaluator = val_evaluator
