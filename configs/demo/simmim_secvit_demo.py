# SimMIM (arXiv 2111.09886) on handwritten digits at 64 px, without labels: the backbone of
# secvit_cls_demo.py learns to paint what is masked. A classifier or a detector of that backbone
# starts from its checkpoint; docs/classification.md says how.
_base_ = "secvit_cls_demo.py"

model = dict(
    _delete_=True,
    type="SimMIM",
    backbone=dict(type="mmeffvit.MaskedBackbone", backbone={{_base_.model.backbone}}),
    neck=dict(type="SimMIMLinearDecoder", in_channels=256, encoder_stride=32),
    head=dict(
        type="SimMIMHead",
        patch_size=4,  # pixels of a cell of the mask
        loss=dict(type="PixelReconstructionLoss", criterion="L1", channel=3),
    ),
)
data_preprocessor = dict(
    _delete_=True,
    type="SelfSupDataPreprocessor",
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)

train_pipeline = [
    dict(type="mmeffvit.LoadImageFromFile", backend_args=None),
    # patches of 16 pixels: 10 of 16 are masked
    dict(
        type="SimMIMMaskGenerator",
        input_size=64,
        mask_patch_size=16,
        model_patch_size=4,
        mask_ratio=0.6,
    ),
    dict(type="PackInputs"),
]
train_dataloader = dict(
    collate_fn=dict(type="default_collate"), dataset=dict(pipeline=train_pipeline)
)

# there is nothing to classify
val_dataloader = None
val_cfg = None
val_evaluator = None
test_dataloader = None
test_cfg = None
test_evaluator = None
