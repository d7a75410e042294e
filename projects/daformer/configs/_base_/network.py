# A narrow RMT under DAFormer's head, for images of 64 pixels, and a preprocessor for pairs.
_base_ = "arch.py"
custom_imports = dict(imports=["projects.daformer.daformer"], allow_failed_imports=False)

model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(
        type="mmeffvit.DomainPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(64, 64),
    ),
    backbone=dict(
        type="mmeffvit.RMT",
        arch=_base_.arch,
        init_cfg=dict(
            type="Pretrained",
            checkpoint="work_dirs/start_rmt_digits-64/iter_1000.pth",
            prefix="backbone.",
        ),
    ),
    decode_head=dict(
        type="mmeffvit.DAFormerHead",
        in_channels=[24, 48, 96, 128],
        embed_dims=48,
        channels=48,
        # the paper's are for maps of 128 x 128, these for 16 x 16
        dilations=(1, 2, 3, 4),
        num_classes=7,
    ),
    train_cfg=dict(),
    test_cfg=dict(mode="whole"),
)
