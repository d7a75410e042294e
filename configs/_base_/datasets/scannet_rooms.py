# ScanNet for semantic segmentation, one file per scene: data/scannet/{train,val,test}/<scene>.pth
# with coord, color (0-255), normal, semantic_gt20 and semantic_gt200. 20 classes; for ScanNet200,
# set num_classes=200 in the three data sets. Augmentations and tests are ConDaFormer's (arXiv
# 2312.11112).
_base_ = "worker_loaders.py"

dataset_type = "mmeffvit.ScanNetRoomDataset"
data_root = "data/scannet/"
num_classes = 20
voxel_size = 0.02
feat_keys = ("coord", "normal", "color")

load_room = dict(type="mmeffvit.LoadRoomFromFile", keys=("coord", "normal", "color"))
normalize_color = dict(type="mmeffvit.NormalizePointsColor", color_mean=127.5, color_std=127.5)
train_pipeline = [
    load_room,
    dict(type="mmeffvit.CenterShift", apply_z=True),
    dict(type="mmeffvit.RandomDropPoints", drop_ratio=0.2, prob=0.2),
    dict(
        type="mmeffvit.GlobalRotScaleTrans",
        rot_range=3.141592653589793,
        rot_prob=0.5,
        scale_ratio_range=(1, 1),
    ),
    # tilted a little about the middle of the room
    dict(
        type="mmeffvit.GlobalRotScaleTrans",
        axis="x",
        center="box",
        rot_range=3.141592653589793 / 64,
        rot_prob=0.5,
        scale_ratio_range=(1, 1),
    ),
    dict(
        type="mmeffvit.GlobalRotScaleTrans",
        axis="y",
        center="box",
        rot_range=3.141592653589793 / 64,
        rot_prob=0.5,
        scale_ratio_range=(0.9, 1.1),
    ),
    dict(type="mmeffvit.RandomFlip3D", flip_ratio_bev_horizontal=0.5, flip_ratio_bev_vertical=0.5),
    dict(type="mmeffvit.RandomJitterPoints", jitter_std=0.005, clip_range=(-0.02, 0.02)),
    dict(type="mmeffvit.ElasticDistortion", distortion_params=((0.2, 0.4), (0.8, 1.6)), prob=0.95),
    dict(type="mmeffvit.ChromaticAutoContrast", prob=0.2),
    dict(type="mmeffvit.ChromaticTranslation", prob=0.95, ratio=0.05),
    dict(type="mmeffvit.ChromaticJitter", prob=0.95, std=0.05),
    dict(type="mmeffvit.GridSample", voxel_size=voxel_size, mode="train"),
    dict(type="mmeffvit.SphereCrop", max_points=100000),
    dict(type="mmeffvit.CenterShift", apply_z=False),
    normalize_color,
    dict(type="mmeffvit.RandomDropPointsColor", drop_ratio=0.2),
    dict(type="mmeffvit.PointShuffle"),
    dict(type="mmeffvit.PackPointInputs", feat_keys=feat_keys),
]
# one pass: the first point of each voxel answers for all of them
val_pipeline = [
    load_room,
    dict(type="mmeffvit.CenterShift", apply_z=True),
    dict(type="mmeffvit.GridSample", voxel_size=voxel_size, mode="val"),
    dict(type="mmeffvit.CenterShift", apply_z=False),
    normalize_color,
    dict(type="mmeffvit.PackPointInputs", feat_keys=feat_keys),
]
# a vote of all points, under four turns and three scales, and mirrored in x and y
test_pipeline = [
    load_room,
    dict(type="mmeffvit.CenterShift", apply_z=True),
    dict(
        type="mmeffvit.TestTimeFragments",
        voxel_size=voxel_size,
        feat_keys=feat_keys,
        variants=[
            *[
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
            [
                dict(
                    type="mmeffvit.RandomFlip3D",
                    flip_ratio_bev_horizontal=1,
                    flip_ratio_bev_vertical=1,
                )
            ],
        ],
        transforms=[dict(type="mmeffvit.CenterShift", apply_z=False), normalize_color],
    ),
    dict(type="mmeffvit.PackPointInputs", feat_keys=feat_keys),
]

train_dataloader = dict(
    batch_size=3,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split="train",
        num_classes=num_classes,
        loop=9,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=2,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split="val",
        num_classes=num_classes,
        test_mode=True,
        pipeline=val_pipeline,
    ),
)
test_dataloader = dict(
    val_dataloader, dataset=dict(val_dataloader["dataset"], pipeline=test_pipeline)
)

val_evaluator = dict(type="mmeffvit.PointSegMetric")
test_evaluator = val_evaluator
