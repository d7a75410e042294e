# DiCo with 24 channels on the digits of scikit-learn, 8 x 8 pixels, 1000 iterations.
# The recipe is the paper's (AdamW, constant rate, no decay, averaged weights), but for its length,
# rate and the momentum of the average.
custom_imports = dict(imports=["projects.dico.dico"], allow_failed_imports=False)
default_scope = "mmengine"

model = dict(
    type="mmeffvit.LatentDiffusion",
    denoiser=dict(
        type="mmeffvit.DiCo",
        arch=dict(embed_dims=24, depths=(1, 1, 1, 1, 1), mlp_ratio=2),
        in_channels=1,
        num_classes=10,
    ),
    sample_steps=100,
)

train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(type="mmeffvit.DigitImages"),
    collate_fn=dict(type="default_collate"),
)
optim_wrapper = dict(optimizer=dict(type="AdamW", lr=2e-3, betas=(0.9, 0.999), weight_decay=0.0))
train_cfg = dict(type="IterBasedTrainLoop", max_iters=1000)
custom_hooks = [dict(type="EMAHook", momentum=0.005)]
default_hooks = dict(
    checkpoint=dict(type="mmeffvit.SafeCheckpointHook", interval=1000, by_epoch=False),
    logger=dict(type="LoggerHook", interval=100),
)
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
