# mask_rcnn_hybrid_demo.py with attention that knows the offset between two tokens: factors of the
# weights (URPE) in windows and on the whole map, gains of the logits (Gaussian mixtures).
_base_ = "./mask_rcnn_hybrid_demo.py"

model = dict(
    backbone=dict(
        arch=dict(
            mixers=(
                dict(type="mmeffvit.URPEMixer", window_size=5),
                dict(type="mmeffvit.GaussianMixtureMixer", window_size=10, init="unit"),
                dict(type="mmeffvit.GaussianMixtureMixer", init="unit"),
                dict(type="mmeffvit.URPEMixer", window_size=None, grid_size=(5, 5)),
            ),
        ),
    ),
)

custom_hooks = [
    hook | dict(title="Mask R-CNN with gains and factors of offsets on handwritten digits")
    if hook["type"] == "mmeffvit.DetectionFiguresHook"
    else hook
    for hook in _base_.custom_hooks
]
