# ConDaFormer with its linear classifier (arXiv 2312.11112), at the size for S3DIS.
model = dict(
    type="mmeffvit.PointSegmentor",
    # pipelines give one point per voxel; clouds that come without are rounded to voxels
    data_preprocessor=dict(
        type="mmeffvit.PointDataPreprocessor",
        voxel_type="minkunet",
        voxel_layer=dict(voxel_size=[0.04, 0.04, 0.04]),
    ),
    backbone=dict(type="mmeffvit.ConDaFormer", arch="s3dis"),
    decode_head=dict(type="mmeffvit.PointSegHead", num_classes=13, ignore_index=255),
    test_cfg=dict(max_points=1000000),
)
