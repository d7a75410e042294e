import sys
from pathlib import Path

import pytest
import torch

from mmeffvit.checkpoint import load_weights, read_checkpoint
from mmeffvit.models.classifier import create_classifier
from mmeffvit.models.official import PYRAMID_RULES

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
from convert_checkpoint import main


def official_name(key):
    """The inverse of the key map, written by hand so that it checks it."""
    parts = key.split(".")
    if parts[0] == "head":
        return {"fc": "head", "proj": "proj", "norm": "norm"}[parts[1]] + "." + parts[2]
    parts = parts[1:]
    if parts[0] == "stem":
        return f"patch_embed.proj.{parts[1]}.{parts[2]}"
    stage, rest = int(parts[1]), parts[2:]
    if rest[0] == "downsample":
        layer = {"conv": "reduction", "norm": "norm"}[rest[1]]
        return f"layers.{stage - 1}.downsample.{layer}.{rest[2]}"
    block, rest = rest[1], rest[2:]
    if rest[0] == "mixer":
        tail = f"attn.{'out_proj' if rest[1] == 'proj' else rest[1]}.{rest[2]}"
    elif rest[0].startswith("norm"):
        tail = f"{rest[0]}.norm.{rest[1]}"
    else:
        tail = ".".join(rest)
    return f"layers.{stage}.blocks.{block}.{tail}"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A training state as the authors save it, of the tiny variant with random weights."""
    classifier = create_classifier("secvit-tiny", num_classes=10)
    state = {official_name(k): v.clone() for k, v in classifier.state_dict().items()}
    state["head.weight"] = state["head.weight"][..., None, None]
    state["layers.0.RoPE.angle"] = torch.ones(16)
    path = tmp_path_factory.mktemp("official") / "SecViT_T.pth"
    worse = {k: torch.zeros_like(v) for k, v in state.items()}
    torch.save({"model": worse, "model_ema": state, "epoch": 299}, path)
    return path, classifier


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_converted_file_gives_the_same_logits(published, tmp_path, capsys, suffix):
    source, classifier = published
    target = tmp_path / f"secvit-tiny{suffix}"
    assert main(["secvit", str(source), str(target)]) == 0
    printed = capsys.readouterr().out
    assert "secvit-tiny: " in printed
    assert "model_ema" in printed
    assert "ignored layers.0.RoPE.angle" in printed
    other = create_classifier("secvit-tiny", num_classes=10)
    load_weights(other, read_checkpoint(target))
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(other.eval()(x), classifier.eval()(x))


def test_files_of_others_are_refused_and_nothing_is_written(tmp_path, capsys):
    torch.save({"state_dict": {"layer1.0.conv1.weight": torch.ones(1)}}, tmp_path / "resnet.pth")
    target = tmp_path / "out.safetensors"
    assert main(["secvit", str(tmp_path / "resnet.pth"), str(target)]) == 1
    assert "not weights of secvit" in capsys.readouterr().err
    assert not target.exists()


def test_a_part_that_is_missing_is_refused(published, tmp_path, capsys):
    state = torch.load(published[0], weights_only=True)
    del state["model_ema"]["layers.2.blocks.3.ffn.fc1.weight"]
    torch.save(state, tmp_path / "part.pth")
    assert main(["secvit", str(tmp_path / "part.pth"), str(tmp_path / "out.pth")]) == 1
    assert "stages.2.blocks.3.ffn.fc1.weight is not in the checkpoint" in capsys.readouterr().err


def test_truncated_and_absent_files(published, tmp_path, capsys):
    half = tmp_path / "half.pth"
    half.write_bytes(published[0].read_bytes()[:100_000])
    assert main(["secvit", str(half), str(tmp_path / "out.pth")]) == 1
    assert "half.pth' (100000 bytes) is truncated" in capsys.readouterr().err
    assert main(["secvit", str(tmp_path / "no.pth"), str(tmp_path / "out.pth")]) == 1
    assert "no checkpoint at" in capsys.readouterr().err


def test_existing_target_is_kept(published, tmp_path, capsys):
    target = tmp_path / "mine.pth"
    target.write_text("precious")
    assert main(["secvit", str(published[0]), str(target)]) == 2
    assert target.read_text() == "precious"
    assert "--overwrite" in capsys.readouterr().err


def test_key_rules_have_reasons_for_what_they_drop():
    assert all(rule.reason for rule in PYRAMID_RULES if rule.target is None)
