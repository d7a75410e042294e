# Stanford's indoor spaces for semantic segmentation, a file per room: data/s3dis/Area_k/<room>.pth
# with coord, color (0-255) and semantic_gt. Trained on areas 1, 2, 3, 4 and 6, measured on area 5.
# Augmentations and tests are ConDaFormer's (arXiv 2312.11112).
_base_ = "worker_loaders.py"

dataset_type = "mmeffvit.S3DISRoomDataset"
data_root = "data/s3dis/"
voxel_size = 0.04
feat_keys = ("coord", "color")

normalize_color = dict(type="mmeffvit.NormalizePointsColor", clip=(0, 1))
train_pipeline = [
    dict(type="mmeffvit.LoadRoomFromFile"),
    dict(type="mmeffvit.CenterShift", apply_z=True),
    dict(
        type="mmeffvit.GlobalRotScaleTrans",
        rot_range=3.141592653589793,
        rot_prob=0.5,
        scale_ratio_range=(0.8, 1.2),
    ),
    dict(type="mmeffvit.RandomJitterPoints", jitter_std=0.005, clip_range=(-0.02, 0.02)),
    dict(type="mmeffvit.RandomDropPointsColor", drop_ratio=0.2),
    dict(type="mmeffvit.GridSample", voxel_size=voxel_size, mode="train"),
    dict(type="mmeffvit.SphereCrop", max_points=80000),
    dict(type="mmeffvit.PositiveShift"),
    normalize_color,
    dict(type="mmeffvit.PointShuffle"),
    dict(type="mmeffvit.PackPointInputs", feat_keys=feat_keys),
]
# one pass: the first point of each voxel answers for all of them
val_pipeline = [
    dict(type="mmeffvit.LoadRoomFromFile"),
    dict(type="mmeffvit.CenterShift", apply_z=True),
    dict(type="mmeffvit.GridSample", voxel_size=voxel_size, mode="val"),
    dict(type="mmeffvit.PositiveShift"),
    normalize_color,
    dict(type="mmeffvit.PackPointInputs", feat_keys=feat_keys),
]
# a vote of all points, under four turns and three scales
test_pipeline = [
    dict(type="mmeffvit.LoadRoomFromFile"),
    dict(type="mmeffvit.CenterShift", apply_z=True),
    dict(
        type="mmeffvit.TestTimeFragments",
        voxel_size=voxel_size,
        feat_keys=feat_keys,
        variants=[
            [
                dict(
                    type="mmeffvit.GlobalRotScaleTrans",
                    rot_range=(angle, angle),
                    scale_ratio_range=(scale, scale),
                )
            ]
            for scale in (1, 0.95, 1.05)
            for angle in (0, 1.5707963267948966, 3.141592653589793, 4.71238898038469)
        ],
        transforms=[dict(type="mmeffvit.PositiveShift"), normalize_color],
    ),
    dict(type="mmeffvit.PackPointInputs", feat_keys=feat_keys),
]

train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        areas=(1, 2, 3, 4, 6),
        loop=30,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=2,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        areas=(5,),
        test_mode=True,
        pipeline=val_pipeline,
    ),
)
test_dataloader = dict(
    val_dataloader, dataset=dict(val_dataloader["dataset"], pipeline=test_pipeline)
)

val_evaluator = dict(type="mmeffvit.PointSegMetric")
test_evaluator = val_evaluator
