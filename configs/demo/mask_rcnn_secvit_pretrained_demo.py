# mask_rcnn_secvit_demo.py from the backbone of a classifier: run secvit_cls_demo.py first, or name
# another of its checkpoints by --cfg-options model.backbone.init_cfg.checkpoint=FILE.
_base_ = "./mask_rcnn_secvit_demo.py"

model = dict(
    backbone=dict(
        init_cfg=dict(
            type="Pretrained",
            checkpoint="work_dirs/secvit_cls_demo/epoch_4.pth",
            prefix="backbone.",
        )
    )
)

# two hooks of the run that it inherits from, the third with another title
custom_hooks = [
    *_base_.custom_hooks[:2],
    dict(
        type="mmeffvit.DetectionFiguresHook",
        title="Mask R-CNN with a pretrained SecViT on handwritten digits",
        seed=19,
    ),
]
