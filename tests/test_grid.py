"""Scheme 1: the flattened map."""

import tracemalloc

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import orthogonal_mp

import pointsense.encoding.grid as grid
from pointsense.encoding import FlattenedMap
from pointsense.errors import DataError, UsageError


def matching_pursuit(x, D):
    if not x.any():
        return torch.zeros(D.shape[1])
    return torch.from_numpy(orthogonal_mp(D.double().numpy(), x.double().numpy(), tol=1e-12))


def test_encode_marks_the_nearest_pixels():
    signal, collisions = FlattenedMap(4, 5, 8).encode(torch.tensor([[0.4, 1.4], [2.5, 3.0], [3.2, 3.4]]))
    assert signal.shape == (20,)
    assert signal.reshape(4, 5).nonzero().tolist() == [[0, 1], [3, 3]]
    assert collisions == 1
    corner, _ = FlattenedMap(4, 5, 8).encode(torch.tensor([[3.5, 4.5]]))  # the outermost border is inside
    assert corner.nonzero().tolist() == [[19]]


@given(
    pixels=st.sets(st.tuples(st.integers(0, 29), st.integers(0, 39)), max_size=6),
    seed=st.integers(0, 3),
)
@settings(max_examples=15, deadline=None)
def test_encode_measure_recover_decode(pixels, seed):
    flattened = FlattenedMap(30, 40, 100, seed)
    signal, collisions = flattened.encode(torch.tensor(sorted(pixels)).reshape(-1, 2))
    assert collisions == 0
    recovered = flattened.recover(flattened.measure(signal), matching_pursuit)
    found = flattened.decode(recovered[None])
    assert {tuple(point) for point in found.points.int().tolist()} == pixels


def test_decode_cuts_small_amplitudes_and_keeps_patches_apart():
    flattened = FlattenedMap(4, 5, 8)
    signal = torch.zeros(3, 20)
    signal[0, 7], signal[2, 19], signal[2, 0] = 0.8, 1.2, 0.3
    found = flattened.decode(signal)
    assert found.points.tolist() == [[1, 2], [3, 4]]
    assert found.patch.tolist() == [0, 2]
    assert found.weight.tolist() == pytest.approx([0.8, 1.2])
    assert len(flattened.decode(signal, threshold=0.2)) == 3


def test_blocks_drawn_on_the_fly_are_those_of_the_matrix(monkeypatch):
    kept = FlattenedMap(50, 50, 12, seed=2)
    x, signal = torch.rand(3, 12), torch.zeros(3, 2500)
    signal[:, [0, 1023, 1024, 2499]] = torch.rand(3, 4)
    D = kept.matrix()
    assert D.dtype == torch.float32
    assert torch.allclose(kept.measure(signal), signal @ D.T, atol=1e-5)
    assert torch.allclose(kept.correlate(x), x @ D, atol=1e-5)
    monkeypatch.setattr(grid, "KEPT_ENTRIES", 0)
    drawn = FlattenedMap(50, 50, 12, seed=2)
    assert torch.equal(drawn.matrix(), D)
    assert torch.allclose(drawn.measure(signal), kept.measure(signal), atol=1e-6)
    assert torch.allclose(drawn.correlate(x), x @ D, atol=1e-5)
    assert "_kept" not in vars(drawn)


def test_blocks_and_seeds_give_different_columns_of_unit_variance():
    D = FlattenedMap(60, 60, 50).matrix()
    assert D.var().item() * 50 == pytest.approx(1, abs=0.03)
    assert not torch.allclose(D[:, :1024], D[:, 1024:2048])
    assert not torch.equal(D, FlattenedMap(60, 60, 50, seed=1).matrix())


def test_the_paper_patch_makes_no_large_tensor(monkeypatch):
    """At 260 x 260, h w = 67,600: neither (h w)^2 nor, for measuring points, m x h w is ever allocated."""
    largest = 0

    class Largest(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, arguments=(), keywords=None):
            nonlocal largest
            result = function(*arguments, **(keywords or {}))
            for tensor in result if isinstance(result, tuple | list) else [result]:
                if isinstance(tensor, torch.Tensor):
                    largest = max(largest, tensor.numel())
            return result

    flattened = FlattenedMap(260, 260, 512)
    tracemalloc.start()
    with Largest():
        signal, _ = flattened.encode(torch.tensor([[17.0, 200.0], [222.0, 31.0]]))
        x = flattened.measure(signal)
        back = flattened.correlate(x)
    python_peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert largest == max(260 * 260, 512 * grid.BLOCK)
    assert python_peak < 10e6
    assert torch.topk(back, 2).indices.sort().values.tolist() == [17 * 260 + 200, 222 * 260 + 31]
    assert flattened.matrix().shape == (512, 67600)


def test_a_matrix_above_1_gib_is_refused_in_words():
    with pytest.raises(UsageError, match=r"4000 x 4000 map with 64 measurements takes 3.8 GiB"):
        FlattenedMap(4000, 4000, 64).matrix()


def test_points_outside_are_refused():
    for point in ([-0.6, 3.0], [3.0, 4.6], [float("nan"), 1.0]):
        with pytest.raises(DataError, match="not in the patch of 4 x 5 px"):
            FlattenedMap(4, 5, 8).encode(torch.tensor([point]))


def test_wrong_sizes():
    with pytest.raises(UsageError, match="found 4 x 5 px and 0"):
        FlattenedMap(4, 5, 0)
    with pytest.raises(UsageError, match=r"shape \(B, 20\), found \(20,\)"):
        FlattenedMap(4, 5, 8).decode(torch.zeros(20))
