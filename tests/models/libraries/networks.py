"""Small networks of other libraries, one of every kind: name, options, strides of their maps."""

PYRAMID = (4, 8, 16, 32)
_TINY = {"embed_dim": 24, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 2, 4)}
_VIT = {"embed_dim": 48, "depth": 2, "num_heads": 2}
_TOOLBOX_VIT = {"embed_dims": 48, "num_layers": 2, "num_heads": 2}
_HF_VIT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
_HF_STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
_HF_SWIN = {"embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 4]}

NETWORKS = [
    # convolutions
    ("timm/test_resnet", {}, PYRAMID),
    ("timm/test_byobnet", {}, PYRAMID),
    ("timm/test_convnext", {}, PYRAMID),
    ("timm/test_efficientnet", {}, PYRAMID),
    ("timm/test_mambaout", {}, PYRAMID),
    ("timm/test_nfnet", {}, PYRAMID),
    ("timm/resnet10t", {}, PYRAMID),
    ("timm/mobilenetv3_small_050", {}, PYRAMID),
    ("timm/regnetx_002", {}, PYRAMID),
    ("timm/fastvit_t8", {}, PYRAMID),
    ("timm/pvt_v2_b0", {"depths": (1, 1, 1, 1)}, PYRAMID),
    ("timm/twins_svt_small", {"depths": (1, 1, 1, 1)}, PYRAMID),
    ("timm/swin_tiny_patch4_window7_224", _TINY, PYRAMID),
    ("timm/swinv2_tiny_window8_256", _TINY, PYRAMID),
    ("timm/test_coatnet", {}, PYRAMID),
    ("timm/test_maxvit", {}, PYRAMID),
    ("timm/hiera_tiny_224", {"embed_dim": 24, "stages": (1, 1, 1, 1)}, PYRAMID),
    ("timm/levit_128s", {}, (16, 32, 64)),
    # plain transformers
    ("timm/test_vit", {}, (16,)),
    ("timm/test_vit_relpos", {}, (16,)),
    ("timm/vit_small_patch14_dinov2", _VIT, (14,)),
    ("timm/vit_small_patch14_reg4_dinov2", _VIT, (14,)),
    ("timm/vit_small_patch16_dinov3", _VIT, (16,)),
    ("timm/eva02_tiny_patch14_224", _VIT, (14,)),
    ("timm/beit_base_patch16_224", _VIT, (16,)),
    ("timm/xcit_nano_12_p16_224", {**_VIT, "embed_dim": 32}, (16,)),
    # torchvision
    ("torchvision/resnet18", {}, PYRAMID),
    ("torchvision/mobilenet_v3_small", {}, PYRAMID),
    ("torchvision/regnet_y_400mf", {}, PYRAMID),
    ("torchvision/shufflenet_v2_x0_5", {}, PYRAMID),
    ("torchvision/swin_t", {}, PYRAMID),
    # Hugging Face
    ("hf/resnet", {**_HF_STAGES, "embedding_size": 8}, PYRAMID),
    ("hf/convnext", _HF_STAGES, PYRAMID),
    ("hf/convnextv2", _HF_STAGES, PYRAMID),
    ("hf/dinov3_convnext", _HF_STAGES, PYRAMID),
    ("hf/swin", _HF_SWIN, PYRAMID),
    ("hf/swinv2", _HF_SWIN, PYRAMID),
    # its stages end after their down-sampling
    ("hf/focalnet", {"embed_dim": 16, "depths": [1, 1, 1, 1]}, (8, 16, 32)),
    (
        "hf/pvt_v2",
        {"hidden_sizes": [8, 16, 40, 32], "depths": [1, 1, 1, 1]},
        PYRAMID,
    ),
    ("hf/dinov2", _HF_VIT, (14,)),
    ("hf/dinov2_with_registers", _HF_VIT, (16,)),
    ("hf/dinov3_vit", {**_HF_VIT, "intermediate_size": 64}, (16,)),
    ("hf/beit", {**_HF_VIT, "intermediate_size": 64}, (16,)),
    ("hf/vitdet", {**_HF_VIT, "mlp_ratio": 2}, (16,)),
    # the toolboxes
    *(
        (f"mmpretrain/{name}", {"arch": {**_TOOLBOX_VIT, "feedforward_channels": 96}}, (16,))
        for name in ("VisionTransformer", "DistilledVisionTransformer", "DeiT3", "ViTEVA02")
    ),
    ("mmseg/VisionTransformer", _TOOLBOX_VIT, (16,)),
    # by their hidden states
    *(
        (f"hf/{name}", {**_HF_VIT, "intermediate_size": 64, **options}, (16,))
        for name, options in (
            ("vit", {}),
            ("deit", {}),
            ("vit_msn", {}),
            ("ijepa", {}),
            ("data2vec-vision", {}),
            ("siglip_vision_model", {}),
            ("clip_vision_model", {"patch_size": 16}),
            ("chinese_clip_vision_model", {"patch_size": 16}),
        )
    ),
]
