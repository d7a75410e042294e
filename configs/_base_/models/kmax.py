# kMaX-DeepLab in the authors' sizes, for COCO: 80 things and 53 kinds of stuff. The backbone is the
# config's that inherits this.
model = dict(
    type="MaskFormer",
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean=[127.5, 127.5, 127.5],
        std=[127.5, 127.5, 127.5],
        bgr_to_rgb=True,
        pad_mask=True,
        pad_seg=True,
        seg_pad_value=255,
    ),
    panoptic_head=dict(
        type="mmeffvit.KMaXHead",
        in_channels=[256, 512, 1024, 2048],
        strides=[4, 8, 16, 32],
        num_things_classes=80,
        num_stuff_classes=53,
        num_queries=128,
        # coarse to fine
        pixel_decoder=dict(
            depths=(1, 5, 1, 1),
            widths=(512, 256, 128, 64),
            kinds=("axial", "axial", "bottleneck", "bottleneck"),
        ),
        decoder=dict(
            depths=(2, 2, 2), embed_dims=256, mask_dims=128, ffn_dims=2048, drop_path_rate=0.2
        ),
        semantic="decoder",
        criterion=dict(num_samples=4096, num_semantic_samples=4096),
    ),
    panoptic_fusion_head=dict(
        type="mmeffvit.KMaXFusionHead", num_things_classes=80, num_stuff_classes=53
    ),
    test_cfg=dict(panoptic_on=True, instance_on=False),
)
