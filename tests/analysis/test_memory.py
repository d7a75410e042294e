"""Peak memory is checked against allocations whose size is known, those of attention among them."""

import os
from functools import partial

import pytest
import torch

from mmeffvit.analysis import benchmark
from mmeffvit.analysis.memory import MIB, ChildError, peak_memory


def _hold(mib):
    torch.ones(mib * MIB, dtype=torch.uint8)


def _allocates_in_turn(mib):
    def call():
        _hold(mib // 2)
        _hold(mib)  # the first half is free again: the peak is not the sum

    return call


def _allocates_small_pieces_after_a_warm_up(mib):
    def call():
        return [torch.ones(MIB, dtype=torch.uint8) for _ in range(mib)]

    call()  # what this frees must not hide what the measured call takes
    return call


def _has_weights(mib):
    weights = torch.ones(mib * MIB, dtype=torch.uint8)
    return lambda: weights[:10].sum()


def _fails():
    def call():
        raise ValueError("no such tensor")

    return call


def _dies():
    return partial(os.kill, os.getpid(), 9)


@pytest.mark.parametrize("prepare", [_allocates_in_turn, _allocates_small_pieces_after_a_warm_up])
def test_known_allocation(prepare):
    assert peak_memory(prepare, 200) / MIB == pytest.approx(200, rel=0.1)


def test_what_was_there_before_is_not_counted():
    assert peak_memory(_has_weights, 200) / MIB < 10


def test_failures_are_told():
    with pytest.raises(ChildError, match="ValueError: no such tensor"):
        peak_memory(_fails)
    with pytest.raises(ChildError, match=r"code -9.*memory ran out"):
        peak_memory(_dies)


def test_fused_attention_holds_no_weights_of_attention():
    """4096 tokens in one cluster make 4096 x 4096 weights, 64 MiB; the reference holds them."""
    arch = {
        "embed_dims": (16, 16, 16, 16),
        "depths": (1, 1, 1, 1),
        "num_heads": (1, 1, 1, 1),
        "mlp_ratios": (1, 1, 1, 1),
        "num_clusters": (1, 1, 1, 1),
        "layer_scale": (None,) * 4,
    }
    peaks = {}
    for name in ("reference", "fused"):
        contender = benchmark.Contender(f"mmeffvit.SecViT:{arch=}", name)
        peak, note = benchmark._measure_memory(benchmark.Setting(256, 256), contender, {})
        assert note == ""
        peaks[name] = peak / MIB
    assert peaks["reference"] > 64
    assert peaks["fused"] < 32
