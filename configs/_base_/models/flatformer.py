# FlatFormer on pillars, residual SECOND, its pyramid, and a centre head with an IoU branch
# (arXiv 2301.08739), at the size for Waymo.
voxel_size = [0.32, 0.32, 6]
grid_range = [-74.88, -74.88, -2, 74.88, 74.88, 4]
model = dict(
    type="mmeffvit.PointDetector",
    data_preprocessor=dict(
        type="mmeffvit.PointDataPreprocessor",
        voxel_type="dynamic",
        voxel_layer=dict(voxel_size=voxel_size, point_cloud_range=grid_range),
    ),
    voxel_encoder=dict(
        type="mmeffvit.DynamicVFE",
        in_channels=5,
        feat_channels=[64, 128],
        voxel_size=voxel_size,
        point_cloud_range=grid_range,
    ),
    middle_encoder=dict(type="mmeffvit.FlatFormer", arch="waymo", grid_size=(468, 468)),
    backbone=dict(
        type="mmeffvit.SECOND",
        in_channels=128,
        out_channels=[64, 128],
        layer_nums=[3, 3],
        layer_strides=[1, 2],
    ),
    neck=dict(
        type="mmeffvit.SECONDFPN",
        in_channels=[64, 128],
        out_channels=[128, 128],
        upsample_strides=[1, 2],
    ),
    bbox_head=dict(
        type="mmeffvit.CenterHead",
        in_channels=256,
        num_classes=3,
        voxel_size=voxel_size,
        point_cloud_range=grid_range,
        test_cfg=dict(
            score_thr=0.1,
            post_center_range=[-74.88, -74.88, -10, 74.88, 74.88, 10],
            # cars, pedestrians, cyclists
            nms_thr=[0.8, 0.55, 0.55],
            nms_pre=[2048, 1024, 1024],
            nms_post=[300, 100, 100],
        ),
    ),
)
