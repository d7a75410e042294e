# UPerNet on both branches, CrossViT-S, 160k iterations of ADE20K.
# The authors trained no segmentor: this is a recipe of fine-tuning plain ViTs (README.md).
_base_ = "../_base_/segmentors/upernet_8xb2-160k_ade20k-512x512.py"

model = dict(
    backbone=dict(_delete_=True, type="mmeffvit.CrossViT", arch="small"),
    neck=dict(type="mmeffvit.PlainToPyramid", in_channels=[192, 384], concat=True),
    decode_head=dict(in_channels=[576] * 4),
    auxiliary_head=dict(in_channels=576),
)

optim_wrapper = dict(
    constructor="mmeffvit.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(_delete_=True, layer_decay_rate=0.95, no_decay=True),
)
