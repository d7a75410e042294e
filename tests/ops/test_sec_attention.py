import pytest
import torch

from mmeffvit.ops import cluster_sizes, sec_attention, sec_cluster_ids
from mmeffvit.testing import relative_rms_error
from tests.ops.agreement import assert_agree

# tokens, clusters: dividing, ragged, more clusters than tokens, one cluster, none
SIZES = [(48, 4), (35, 4), (35, 6), (7, 32), (20, 1), (20, -1), (1, 8), (97, 32)]


def inputs(tokens, heads=3, dim=8, batch=2, dtype=torch.float32):
    return [torch.randn(batch, tokens, heads, dim, dtype=dtype) for _ in range(3)]


def literal(q, k, v, num_clusters):
    """One sample, one head, one token at a time."""
    out = torch.empty_like(q)
    batch, tokens, heads, dim = q.shape
    for b in range(batch):
        for h in range(heads):
            keys = k[b, :, h]
            similarity = torch.cosine_similarity(keys, keys.mean(0, keepdim=True), dim=-1)
            order = similarity.argsort().tolist()
            start = 0
            for size in cluster_sizes(tokens, num_clusters):
                group = order[start : start + size]
                start += size
                for i in group:
                    weights = (keys[group] @ q[b, i, h] * dim**-0.5).softmax(0)
                    out[b, i, h] = weights @ v[b, group, h]
    return out


@pytest.mark.parametrize(
    ("tokens", "clusters", "sizes"),
    [(10, 4, [3, 3, 2, 2]), (8, 4, [2] * 4), (3, 5, [1, 1, 1]), (9, -1, [9]), (9, 0, [9])],
)
def test_cluster_sizes(tokens, clusters, sizes):
    assert cluster_sizes(tokens, clusters) == sizes


@pytest.mark.parametrize("implementation", ["reference", "fused"])
@pytest.mark.parametrize(("tokens", "clusters"), SIZES)
def test_equals_the_formula_token_by_token(tokens, clusters, implementation):
    q, k, v = inputs(tokens, dtype=torch.float64)
    out = sec_attention(q, k, v, clusters, implementation=implementation)
    torch.testing.assert_close(out, literal(q, k, v, clusters))


@pytest.mark.parametrize(("tokens", "clusters"), SIZES)
def test_fused_against_reference_with_gradients(tokens, clusters):
    tensors = [t.requires_grad_() for t in inputs(tokens, dim=16)]
    weight = torch.randn_like(tensors[0])
    results = []
    for implementation in ("reference", "fused"):
        out = sec_attention(*tensors, clusters, implementation=implementation)
        results.append((out, *torch.autograd.grad((out * weight).sum(), tensors)))
    assert_agree(*results)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("tokens", "clusters"), [(48, 4), (35, 4), (20, 1)])
def test_half_precision(tokens, clusters, dtype):
    tensors = [t.to(dtype).requires_grad_() for t in inputs(tokens, dim=16)]
    weight = torch.randn(tensors[0].shape)
    exact = [t.detach().float().requires_grad_() for t in tensors]
    out = sec_attention(*tensors, clusters, implementation="fused")
    expected = sec_attention(*exact, clusters, implementation="reference")
    assert out.dtype == dtype
    # the clusters are those of the float32 keys, so that only rounding is left
    tolerance = 2e-2 if dtype == torch.bfloat16 else 3e-3
    assert relative_rms_error(out.float(), expected) < tolerance
    grads = torch.autograd.grad((out.float() * weight).sum(), tensors)
    expected_grads = torch.autograd.grad((expected * weight).sum(), exact)
    for actual, reference in zip(grads, expected_grads):
        assert relative_rms_error(actual.float(), reference) < tolerance


@pytest.mark.parametrize("implementation", ["reference", "fused"])
def test_scale_changes_logits_and_not_clusters(implementation):
    q, k, v = inputs(24, dtype=torch.float64)
    out = sec_attention(q, k, v, 3, scale=0.5, implementation=implementation)
    by_hand = literal(q * 0.5 * q.shape[-1] ** 0.5, k, v, 3)
    torch.testing.assert_close(out, by_hand)


def test_second_derivative_of_the_gathers():
    tensors = [t.requires_grad_() for t in inputs(6, heads=1, dim=4, batch=1, dtype=torch.float64)]

    def first_cluster_rows(q, k, v):
        from mmeffvit.ops.grouped_attention.fused import _PermuteRows

        index = torch.tensor([3, 0, 5, 1, 2, 4])
        return _PermuteRows.apply(v.reshape(6, 4) ** 3, index, index.argsort())

    assert torch.autograd.gradgradcheck(first_cluster_rows, tensors)


def test_partition_is_per_sample():
    q, k, v = inputs(35, batch=3)
    together = sec_attention(q, k, v, 4)
    alone = torch.cat(
        [sec_attention(q[i : i + 1], k[i : i + 1], v[i : i + 1], 4) for i in range(3)]
    )
    torch.testing.assert_close(together, alone)


def test_permuting_tokens_permutes_outputs():
    q, k, v = inputs(35)
    permutation = torch.randperm(35)
    out = sec_attention(q[:, permutation], k[:, permutation], v[:, permutation], 4)
    torch.testing.assert_close(out, sec_attention(q, k, v, 4)[:, permutation])


def test_cluster_ids_are_equitable_and_ordered_by_similarity():
    k = torch.randn(2, 30, 3, 8)
    ids = sec_cluster_ids(k, 4)
    assert ids.shape == (2, 3, 30)
    similarity = torch.cosine_similarity(k, k.mean(1, keepdim=True), dim=-1).transpose(1, 2)
    for b in range(2):
        for h in range(3):
            assert torch.bincount(ids[b, h]).tolist() == [8, 8, 7, 7]
            for cluster in range(3):
                lower = similarity[b, h][ids[b, h] == cluster].max()
                assert lower <= similarity[b, h][ids[b, h] == cluster + 1].min()


@pytest.mark.parametrize("implementation", ["reference", "fused"])
def test_equal_keys_are_clustered_by_position(implementation):
    q, _, v = inputs(12, heads=1, batch=1)
    k = torch.ones_like(q)
    expected = v.unflatten(1, (3, 4)).mean(2, keepdim=True).expand(-1, -1, 4, -1, -1).flatten(1, 2)
    out = sec_attention(q, k, v, 3, implementation=implementation)
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("implementation", ["reference", "fused"])
def test_nan_stays_visible(implementation):
    q, k, v = inputs(16)
    k[0, 3, 1, 2] = float("nan")
    out = sec_attention(q, k, v, 4, implementation=implementation)
    assert out[0, :, 1].isnan().any()
    assert not out[1].isnan().any()
    assert not out[0, :, 0].isnan().any()


def test_shapes_must_agree():
    q, k, v = inputs(8)
    with pytest.raises(ValueError, match=r"one shape \(B, L, h, d\)"):
        sec_attention(q, k[:, :4], v, 2)
    with pytest.raises(ValueError, match=r"one shape"):
        sec_attention(q[0], k[0], v[0], 2)


def test_forward_holds_no_weights_of_a_cluster():
    """Largest tensor that autograd keeps: O(L d), not L x L/K."""
    q, k, v = (t.requires_grad_() for t in inputs(1024, heads=1, dim=8, batch=1))
    saved = {}
    for implementation in ("reference", "fused"):
        largest = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, largest=largest: (largest.append(t.numel()), t)[1], lambda t: t
        ):
            sec_attention(q, k, v, 2, implementation=implementation)
        saved[implementation] = max(largest)
    assert saved["fused"] <= 1024 * 8
    assert saved["reference"] >= 1024 * 512  # so that the measurement is shown to see it
