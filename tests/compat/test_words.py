"""GLIP and Grounding DINO run beside transformers 5, and on the maintained mmdet."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from maintenance.swap_zoo.language import write_bert
from mmeffvit.compat import words

pytest.importorskip("mmdet")


class TestLanguageModels:
    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory):
        pytest.importorskip("transformers")
        folder = tmp_path_factory.mktemp("bert")
        write_bert(folder, ("person", "dog"))
        return folder

    def build(self, folder, **options):
        with DefaultScope.overwrite_default_scope("mmdet"):
            model = MODELS.build({"type": "BertModel", "name": str(folder), **options})
        return model.eval()

    def test_reads_words(self, folder):
        model = self.build(folder, max_tokens=8)
        called = model.tokenizer("person. dog.", return_tensors="pt")["input_ids"]
        with torch.no_grad():
            read = model(["person. dog.", "dog."])
        assert read["embedded"].shape == (2, 8, 768)
        assert torch.isfinite(read["embedded"]).all()
        assert read["masks"].sum(1).tolist() == [called.shape[1], called.shape[1] - 2]

    def test_words_of_one_phrase_do_not_see_another(self, folder):
        """A mask of pairs reaches the attention: each phrase is read as if it stood alone."""
        model = self.build(
            folder,
            pad_to_max=False,
            use_sub_sentence_represent=True,
            special_tokens_list=["[CLS]", "[SEP]", ".", "?"],
        )
        with torch.no_grad():
            both = model(["person. dog."])
            other = model(["person. person."])
        assert both["masks"].shape == (1, 6, 6)
        # [CLS] person . dog . [SEP]
        assert torch.equal(both["embedded"][:, :3], other["embedded"][:, :3])
        assert not torch.equal(both["embedded"][:, 3], other["embedded"][:, 3])


class Loader:
    """A class of transformers."""

    other = "kept"

    def __init__(self, **names):
        self.names = names

    def from_pretrained(self, name, **kwargs):
        made = type("Made", (), {"__call__": lambda self, *args, **kwargs: (args, kwargs)})()
        vars(made).update(self.names)
        return made


def test_only_where_the_name_is_missing():
    module = SimpleNamespace(AutoTokenizer=Loader(), HFBertModel=None)
    words._repair_transformers(module)
    once = module.AutoTokenizer
    words._repair_transformers(module)
    assert module.AutoTokenizer is once
    assert module.HFBertModel is None
    assert once.other == "kept"
    made = once.from_pretrained("bert")
    assert made.batch_encode_plus(["a"], truncation=True) == ((["a"],), {"truncation": True})

    has_it = SimpleNamespace(AutoTokenizer=Loader(batch_encode_plus="its own"), HFBertModel=None)
    words._repair_transformers(has_it)
    assert has_it.AutoTokenizer.from_pretrained("bert").batch_encode_plus == "its own"


def test_nothing_without_transformers():
    module = SimpleNamespace(AutoTokenizer=None, HFBertModel=None)
    words._repair_transformers(module)
    assert vars(module) == {"AutoTokenizer": None, "HFBertModel": None}


class TestGroundingDino:
    def test_boxes_are_encoded_as_wide_as_the_decoder_is_built(self):
        from mmdet.models.layers.transformer.grounding_dino_layers import (
            GroundingDinoTransformerDecoder,
        )
        from mmdet.models.layers.transformer.utils import coordinate_to_encoding

        dims = {"embed_dims": 256}
        decoder = GroundingDinoTransformerDecoder(
            num_layers=1,
            return_intermediate=False,
            layer_cfg={
                "self_attn_cfg": {**dims, "num_heads": 2},
                "cross_attn_text_cfg": {**dims, "num_heads": 2},
                "cross_attn_cfg": {**dims, "num_levels": 1, "num_heads": 2},
                "ffn_cfg": {**dims, "feedforward_channels": 8},
            },
            post_norm_cfg=None,
        )
        seen = []
        decoder.layers[0].forward = lambda query, query_pos, **rest: seen.append(query_pos)
        points = torch.rand(1, 3, 4)
        decoder(
            query=torch.randn(1, 3, 256),
            value=None,
            key_padding_mask=None,
            self_attn_mask=None,
            reference_points=points,
            spatial_shapes=None,
            level_start_index=None,
            valid_ratios=torch.ones(1, 1, 2),
            reg_branches=None,
        )
        wanted = decoder.ref_point_head(coordinate_to_encoding(points, num_feats=128))
        assert torch.equal(seen[0], wanted)

    def test_a_decoder_of_its_own_stays(self):
        class Parent:
            def forward(self):
                return coordinate_to_encoding(1, num_feats=2)  # noqa: F821

        class Own(Parent):
            def forward(self):
                return 3

        class Fits(Parent):
            pass

        Fits.forward = Own.forward
        for decoder in (Own, Fits):
            before = decoder.forward
            words._encode_boxes_as_built(SimpleNamespace(GroundingDinoTransformerDecoder=decoder))
            assert decoder.forward is before
