import math

import pytest
import torch

from mmeffvit.ops.manhattan_attention import ManhattanDecay, decay_rates, fused, manhattan_attention
from mmeffvit.testing import relative_rms_error
from tests.ops.agreement import assert_agree

# powers of two times a distance are exact in float32, so that float64 results can be compared
EXACT_RATES = (-0.25, -0.0625, -1.0)
SIZES = [(3, 5), (6, 4), (1, 7), (6, 1), (1, 1)]
FORMS = pytest.mark.parametrize("decomposed", [False, True], ids=["full", "decomposed"])


def inputs(height, width, heads=3, dim=8, batch=2, dtype=torch.float32):
    return [torch.randn(batch, height * width, heads, dim, dtype=dtype) for _ in range(3)]


def literal(q, k, v, rates, height, width, decomposed):
    """One sample, one head, one pixel at a time."""

    def attend(query, others, values, b, h):
        logits = [
            q[b, query, h] @ k[b, other, h] * q.shape[-1] ** -0.5
            + rates[h]
            * (
                abs(query // width - other // width)  # rows
                + abs(query % width - other % width)  # columns
            )
            for other in others
        ]
        return torch.stack(logits).softmax(0) @ values[b, others, h]

    def everywhere(values, others_of):
        out = torch.empty_like(values)
        for b in range(q.shape[0]):
            for h in range(q.shape[2]):
                for n in range(height * width):
                    out[b, n, h] = attend(n, others_of(n), values, b, h)
        return out

    if not decomposed:
        return everywhere(v, lambda n: list(range(height * width)))
    rows = everywhere(v, lambda n: [n // width * width + x for x in range(width)])
    return everywhere(rows, lambda n: [y * width + n % width for y in range(height)])


@pytest.fixture
def in_chunks(monkeypatch):
    """Make the full form go through bands of 8 queries or a little more, and a rest, on any map."""
    monkeypatch.setattr(fused, "LARGEST_MASK", 0)
    monkeypatch.setattr(fused, "_QUERIES_OF_A_BAND", {"other": 8})


class TestDecay:
    @pytest.mark.parametrize(("heads", "init", "span"), [(4, 2, 4), (1, 2, 6), (3, 1, 0)])
    def test_rates_are_the_formula(self, heads, init, span):
        expected = [math.log(1 - 2 ** -(init + span * i / heads)) for i in range(heads)]
        assert decay_rates(heads, init, span) == pytest.approx(expected)
        assert all(rate < 0 for rate in decay_rates(heads, init, span))

    def test_rates_must_decay(self):
        with pytest.raises(ValueError, match="must be positive, got init=0 and span=4"):
            decay_rates(4, 0, 4)

    @pytest.mark.parametrize(("height", "width"), SIZES)
    def test_masks_are_manhattan_distances(self, height, width):
        decay = ManhattanDecay(height, width, decay_rates(3))
        full = decay.full()
        assert full.dtype == torch.float32
        assert full.shape == (3, height * width, height * width)
        for h, rate in enumerate(decay.rates):
            for i in range(height * width):
                for j in range(height * width):
                    (y, x), (v, u) = divmod(i, width), divmod(j, width)
                    assert full[h, i, j].item() == pytest.approx(rate * (abs(y - v) + abs(x - u)))
                    assert decay.along_height[h, y, v].item() == pytest.approx(rate * abs(y - v))
                    assert decay.along_width[h, x, u].item() == pytest.approx(rate * abs(x - u))

    def test_some_rows_are_those_of_the_whole(self):
        decay = ManhattanDecay(7, 4, decay_rates(5))
        masks = decay.bands(2, 1, torch.float32)
        # bands of the rows 0 and 1, 2 and 3, 4 and 5, then 6 alone, counted from the last one
        bands = masks.view(1, 3, 2).flip(0)
        assert torch.equal(bands.transpose(0, 1).flatten(1, 2), decay.full()[:, :24])
        assert torch.equal(masks.view(0, 1, 1)[0], decay.full()[:, 24:])
        # one table, which all bands share
        assert masks.table.shape == (5, 2, 4, 13 * 4)

    def test_keys_beyond_the_edge_have_no_weight(self):
        masks = ManhattanDecay(3, 5, EXACT_RATES).bands(1, 4, torch.float32).view(0, 3, 1)
        assert masks.shape == (3, 3, 5, 24)
        rows = masks.unflatten(3, (3, 8))
        assert rows[..., 5:].isinf().all()
        assert rows[..., :5].isfinite().all()

    def test_masks_are_made_once_and_serve_training_after_inference(self):
        with torch.inference_mode():
            decay = ManhattanDecay(2, 3, decay_rates(2))
            first = decay.along_width, decay.full()
        again = ManhattanDecay(9, 3, decay_rates(2))
        assert again.along_width is first[0]
        assert decay.full() is first[1]
        for form in (False, True):
            q, k, v = (t.requires_grad_() for t in inputs(2, 3, heads=2))
            manhattan_attention(q, k, v, decay, decomposed=form).sum().backward()
            assert v.grad is not None


@FORMS
@pytest.mark.parametrize("implementation", ["reference", "fused"])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_equals_the_formula_pixel_by_pixel(height, width, implementation, decomposed):
    q, k, v = inputs(height, width, dtype=torch.float64)
    decay = ManhattanDecay(height, width, EXACT_RATES)
    out = manhattan_attention(q, k, v, decay, decomposed=decomposed, implementation=implementation)
    expected = literal(q, k, v, EXACT_RATES, height, width, decomposed)
    torch.testing.assert_close(out, expected)


@pytest.mark.usefixtures("in_chunks")
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_chunks_equal_the_formula_pixel_by_pixel(height, width):
    q, k, v = inputs(height, width, dtype=torch.float64)
    out = manhattan_attention(q, k, v, ManhattanDecay(height, width, EXACT_RATES))
    torch.testing.assert_close(out, literal(q, k, v, EXACT_RATES, height, width, False))


def both_with_gradients(height, width, **options):
    tensors = [t.requires_grad_() for t in inputs(height, width, heads=4, dim=16)]
    decay = ManhattanDecay(height, width, decay_rates(4))
    weight = torch.randn_like(tensors[0])
    results = []
    for implementation in ("reference", "fused"):
        out = manhattan_attention(*tensors, decay, implementation=implementation, **options)
        results.append((out, *torch.autograd.grad((out * weight).sum(), tensors)))
    return results


@FORMS
@pytest.mark.parametrize(("height", "width"), [*SIZES, (13, 9)])
def test_fused_against_reference_with_gradients(height, width, decomposed):
    assert_agree(*both_with_gradients(height, width, decomposed=decomposed))


@pytest.mark.usefixtures("in_chunks")
@pytest.mark.parametrize(("height", "width"), [*SIZES, (13, 9)])
def test_chunks_against_reference_with_gradients(height, width):
    assert_agree(*both_with_gradients(height, width))


@pytest.mark.usefixtures("in_chunks")
@pytest.mark.parametrize("bands", [1, 2, 99])
@pytest.mark.parametrize("alignment", [1, 8])
def test_any_number_of_bands_at_a_time_and_aligned_masks(monkeypatch, bands, alignment):
    """One, two (and then the last) and all of the bands; masks as a GPU wants them."""
    monkeypatch.setattr(fused, "_ALIGNMENT", {"other": alignment})
    monkeypatch.setattr(fused, "_KEYS_AT_A_TIME", bands * 3 * 7 * 8 * 8)
    assert_agree(*both_with_gradients(7, 5))


@pytest.mark.usefixtures("in_chunks")
def test_gradients_of_chunks_by_finite_differences():
    tensors = inputs(2, 5, heads=2, dim=2, batch=1, dtype=torch.float64)
    tensors = [t.requires_grad_() for t in tensors]
    decay = ManhattanDecay(2, 5, EXACT_RATES[:2])
    assert torch.autograd.gradcheck(lambda *t: manhattan_attention(*t, decay), tensors)


@pytest.mark.usefixtures("in_chunks")
def test_second_derivatives_of_chunks_are_refused():
    tensors = [t.requires_grad_() for t in inputs(3, 4)]
    out = manhattan_attention(*tensors, ManhattanDecay(3, 4, EXACT_RATES))
    (grad,) = torch.autograd.grad(out.square().sum(), tensors[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="backward is not implemented"):
        grad.sum().backward()


def check_half_precision(dtype, decomposed):
    tensors = [t.to(dtype).requires_grad_() for t in inputs(7, 9, dim=16)]
    decay = ManhattanDecay(7, 9, decay_rates(3))
    weight = torch.randn(tensors[0].shape)
    exact = [t.detach().float().requires_grad_() for t in tensors]
    out = manhattan_attention(*tensors, decay, decomposed=decomposed, implementation="fused")
    expected = manhattan_attention(*exact, decay, decomposed=decomposed, implementation="reference")
    assert out.dtype == dtype
    tolerance = 2e-2 if dtype == torch.bfloat16 else 3e-3
    assert relative_rms_error(out.float(), expected) < tolerance
    grads = torch.autograd.grad((out.float() * weight).sum(), tensors)
    for actual, reference in zip(grads, torch.autograd.grad((expected * weight).sum(), exact)):
        assert actual.dtype == dtype
        assert relative_rms_error(actual.float(), reference) < tolerance


HALF = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])


@HALF
@FORMS
def test_half_precision(dtype, decomposed):
    check_half_precision(dtype, decomposed)


@HALF
@pytest.mark.usefixtures("in_chunks")
def test_half_precision_in_chunks(dtype):
    check_half_precision(dtype, False)


@HALF
@pytest.mark.parametrize(
    ("height", "width", "decomposed"), [(50, 84, True), (20, 30, False), (30, 40, False)]
)
def test_large_activations_do_not_overflow(monkeypatch, height, width, decomposed, dtype):
    """Logits of a few millions are far above float16; the full form once whole, once in chunks."""
    monkeypatch.setattr(fused, "LARGEST_MASK", 2**20)
    q, k, v = (
        (1e3 * t).to(dtype).requires_grad_() for t in inputs(height, width, heads=1, batch=1)
    )
    decay = ManhattanDecay(height, width, decay_rates(1))
    out = manhattan_attention(q, k, v, decay, decomposed=decomposed)
    assert out.isfinite().all()
    assert out.abs().max() <= v.abs().max()
    grads = torch.autograd.grad(out.float().mean(), (q, k, v))
    assert all(grad.isfinite().all() for grad in grads)


@FORMS
@pytest.mark.parametrize("implementation", ["reference", "fused"])
def test_scale(implementation, decomposed):
    q, k, v = inputs(3, 4, dtype=torch.float64)
    decay = ManhattanDecay(3, 4, EXACT_RATES)
    options = {"decomposed": decomposed, "implementation": implementation}
    out = manhattan_attention(q, k, v, decay, scale=0.5, **options)
    expected = literal(q * 0.5 * 8**0.5, k, v, EXACT_RATES, 3, 4, decomposed)
    torch.testing.assert_close(out, expected)


def test_full_form_knows_no_direction_and_decomposed_form_does():
    q, k, v = inputs(4, 5)
    transposed = [t.unflatten(1, (4, 5)).transpose(1, 2).flatten(1, 2) for t in (q, k, v)]
    for decomposed in (False, True):
        out = manhattan_attention(q, k, v, ManhattanDecay(4, 5, EXACT_RATES), decomposed=decomposed)
        other = manhattan_attention(
            *transposed, ManhattanDecay(5, 4, EXACT_RATES), decomposed=decomposed
        )
        other = other.unflatten(1, (5, 4)).transpose(1, 2).flatten(1, 2)
        assert torch.allclose(out, other, atol=1e-5) != decomposed


@FORMS
def test_traced_and_eager_results_agree(monkeypatch, decomposed):
    q, k, v = inputs(5, 6)
    eager = manhattan_attention(q, k, v, ManhattanDecay(5, 6, EXACT_RATES), decomposed=decomposed)
    monkeypatch.setattr(fused, "LARGEST_MASK", 0)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    traced = manhattan_attention(q, k, v, ManhattanDecay(5, 6, EXACT_RATES), decomposed=decomposed)
    torch.testing.assert_close(traced, eager)


@FORMS
@pytest.mark.parametrize("implementation", ["reference", "fused"])
def test_nan_stays_visible(implementation, decomposed):
    q, k, v = inputs(4, 4)
    k[0, 3, 1, 2] = float("nan")
    decay = ManhattanDecay(4, 4, EXACT_RATES)
    out = manhattan_attention(q, k, v, decay, decomposed=decomposed, implementation=implementation)
    assert out[0, :, 1].isnan().any()
    assert not out[1].isnan().any()
    assert not out[0, :, 0].isnan().any()


def test_shapes_must_agree():
    q, k, v = inputs(2, 4)
    decay = ManhattanDecay(2, 4, EXACT_RATES)
    with pytest.raises(ValueError, match=r"one shape \(B, L, h, d\)"):
        manhattan_attention(q, k[:, :4], v, decay)
    with pytest.raises(ValueError, match="one shape"):
        manhattan_attention(q[0], k[0], v[0], decay)
    with pytest.raises(ValueError, match=r"3 x 4 tokens and 3 heads, but .*\(2, 8, 3, 8\)"):
        manhattan_attention(q, k, v, ManhattanDecay(3, 4, EXACT_RATES))
    with pytest.raises(ValueError, match="2 heads"):
        manhattan_attention(q, k, v, ManhattanDecay(2, 4, EXACT_RATES[:2]))


def kept_sizes(height, width, decomposed, implementation):
    """Sizes of the storages that autograd keeps after two calls, each storage once."""
    decay = ManhattanDecay(height, width, decay_rates(2))
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: (kept.update({t.untyped_storage().data_ptr(): t}), t)[1], lambda t: t
    ):
        outs = []
        for _ in range(2):
            tensors = (t.requires_grad_() for t in inputs(height, width, heads=2, batch=1))
            outs.append(
                manhattan_attention(
                    *tensors, decay, decomposed=decomposed, implementation=implementation
                )
            )
    return sorted(t.untyped_storage().nbytes() // t.element_size() for t in kept.values())


def test_decomposed_form_keeps_no_weights():
    tokens = 32 * 32
    assert kept_sizes(32, 32, True, "fused")[-1] <= 2 * tokens * 8
    assert kept_sizes(32, 32, True, "reference")[-1] >= 2 * tokens * 32


def test_full_form_keeps_no_weights_and_one_mask_on_small_maps():
    tokens = 16 * 16
    sizes = kept_sizes(16, 16, False, "fused")
    assert sizes[-1] == 2 * tokens**2
    assert sizes[-2] <= 2 * tokens * 8


@pytest.mark.usefixtures("in_chunks")
def test_full_form_keeps_no_weights_and_one_table_of_bands_on_large_maps():
    tokens = 16 * 16
    sizes = kept_sizes(16, 16, False, "fused")
    # of both calls: distances of one row of queries to rows above and below
    assert sizes[-1] == 2 * 16 * (31 * 16)
    assert sizes[-2] <= 2 * tokens * 8
    assert kept_sizes(16, 16, False, "reference")[-1] >= 2 * tokens**2


@FORMS
def test_shapes_on_the_meta_device(decomposed):
    q, k, v = (t.to("meta") for t in inputs(90, 70))
    decay = ManhattanDecay(90, 70, EXACT_RATES, "meta")
    assert manhattan_attention(q, k, v, decay, decomposed=decomposed).shape == q.shape
