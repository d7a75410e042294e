# Gaussian noise of sigma 25, by a U of 8 to 32 channels.
_base_ = "_base_/photographs.py"
model = dict(
    type="mmeffvit.ImageRestorer",
    network=dict(
        type="mmeffvit.LAformer",
        arch=dict(embed_dims=(8, 16, 32), depths=(2, 2, 2), num_heads=(1, 2, 4), refinement=0),
    ),
)
train_dataloader = dict(dataset=dict(noise=25))
val_dataloader = dict(dataset=dict(noise=25))
test_dataloader = val_dataloader
