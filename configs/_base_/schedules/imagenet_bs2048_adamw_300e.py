# 300 epochs of AdamW on batches of 2048, as the authors of SecViT, RAVLT, SSViT and RMT train: the
# learning rate is 5e-4 for 512 images, rises for five epochs and falls on a cosine to 1e-5.
# Gradients are not clipped.
batch_size = 2048
learning_rate = 5e-4 * batch_size / 512
warmup_epochs = 5
max_epochs = 300

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=learning_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05),
    # norms, biases and layer scales, as timm's optimizers exempt them
    constructor="mmeffvit.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(no_decay=True),
)
param_scheduler = [
    dict(
        type="LinearLR",
        start_factor=1e-6 / learning_rate,
        by_epoch=True,
        begin=0,
        end=warmup_epochs,
        convert_to_iter_based=True,
    ),
    dict(
        type="CosineAnnealingLR",
        eta_min=1e-5,
        by_epoch=True,
        begin=warmup_epochs,
        end=max_epochs,
    ),
]

train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=batch_size)

# batch norms are synchronised when several GPUs train together
sync_bn = "torch"
