"""Our backbones as models of timm and of transformers, with the maps that they have here."""

import pytest
import torch

import mmeffvit

IMAGE = torch.linspace(-1, 1, 3 * 64 * 96).view(1, 3, 64, 96)


def same_maps(actual, expected):
    return all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


class TestTimm:
    @pytest.fixture(autouse=True)
    def _registered(self):
        self.names = mmeffvit.register_in_timm()

    def test_has_all_of_ours_and_keeps_its_own(self):
        import timm

        assert mmeffvit.register_in_timm() == self.names
        assert (
            {"ravlt_tiny", "secvit_tiny", "rmt_small"} <= set(self.names) <= set(timm.list_models())
        )
        assert timm.is_model("resnet18")

    def test_features_are_our_maps(self):
        import timm

        model = timm.create_model(
            "ravlt_tiny", features_only=True, out_indices=(1, 2, 3), drop_path_rate=0.0
        ).eval()
        assert model.feature_info.channels() == [128, 256, 512]
        assert model.feature_info.reduction() == [8, 16, 32]
        ours = mmeffvit.create_backbone("ravlt-tiny", out_indices=(1, 2, 3)).eval()
        ours.load_state_dict(model.backbone.state_dict())
        with torch.no_grad():
            assert same_maps(model(IMAGE), ours(IMAGE))

    def test_without_features_it_is_the_classifier(self):
        import timm

        with torch.device("meta"):
            model = timm.create_model("ravlt_tiny", num_classes=7, in_chans=4)
            assert model(torch.empty(1, 4, 64, 64)).shape == (1, 7)

    def test_weights_are_had_elsewhere(self):
        import timm

        with pytest.raises(ValueError, match=r"checkpoint_path=FILE, or use mmeffvit\.create_back"):
            timm.create_model("ravlt_tiny", pretrained=True)


def test_transformers_saves_and_loads_them(tmp_path):
    from transformers import AutoBackbone, AutoConfig, AutoModel

    mmeffvit.register_in_transformers()
    mmeffvit.register_in_transformers()
    config = AutoConfig.for_model("mmeffvit", backbone="secvit-tiny", out_indices=[1, 3])
    network = AutoBackbone.from_config(config).eval()
    assert network.out_features == ["stage2", "stage4"]
    assert network.channels == [network.network.out_channels[0], network.network.out_channels[1]]
    network.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(str(tmp_path)).eval()
    ours = mmeffvit.create_backbone("secvit-tiny", out_indices=(1, 3)).eval()
    ours.load_state_dict(network.network.state_dict())
    with torch.no_grad():
        maps = network(IMAGE).feature_maps
        assert same_maps(maps, ours(IMAGE))
        assert same_maps(again(IMAGE).feature_maps, maps)
