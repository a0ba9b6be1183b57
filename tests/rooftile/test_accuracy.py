"""The promise "same answer": what counts as an error, and when the promise is broken."""

from __future__ import annotations

import pytest
import torch

from rooftile.accuracy import Accuracy, error, promised
from rooftile.checking import check, reference

INF, NAN = float("inf"), float("nan")


def test_the_error_is_relative_and_in_the_2_norm() -> None:
    assert error(torch.tensor([3.0, 4.5]), torch.tensor([3.0, 4.0])) == pytest.approx(0.1)


def test_positions_that_are_not_finite_do_not_count() -> None:
    assert error(torch.tensor([1.0, INF, NAN]), torch.tensor([1.0, INF, NAN])) == 0.0


def test_the_error_of_zero_is_absolute() -> None:
    assert error(torch.tensor([0.0, 2e-3]), torch.zeros(2)) == pytest.approx(2e-3)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="shape"):
        error(torch.zeros(2), torch.zeros(3))


def test_a_tenth_more_than_eager_is_allowed() -> None:
    assert Accuracy(ours=1.1e-3, eager=1e-3, same_nonfinite=True).kept
    assert not Accuracy(ours=1.11e-3, eager=1e-3, same_nonfinite=True).kept
    assert Accuracy(ours=4e-7, eager=0.0, same_nonfinite=True).kept


@pytest.mark.parametrize("other", [[1.0, INF], [1.0, 2.0], [NAN, NAN], [1.0, -INF]])
def test_nan_and_infinity_must_stand_where_eager_has_them(other: list[float]) -> None:
    eager = torch.tensor([1.0, NAN]) if other[1] is not -INF else torch.tensor([1.0, INF])
    (verdict,) = promised([torch.tensor(other)], [eager], [torch.tensor([1.0, 1.0])])
    assert not verdict.kept and "broken" in str(verdict)


def test_casts_inside_a_model_are_not_rounding_in_the_reference() -> None:
    def rounded(x: torch.Tensor) -> torch.Tensor:
        return x.bfloat16().float() * 3

    x = torch.randn(64)
    torch.testing.assert_close(reference(rounded)(x), x.double() * 3)


def test_a_wrong_model_is_found_out() -> None:
    model = torch.nn.Linear(8, 8)
    x = torch.randn(4, 8)
    assert check(model, model, (x,))[0].kept
    assert not check(lambda x: model(x) + 1e-3, model, (x,))[0].kept


def test_inputs_that_the_model_writes_to_are_copied_for_each_run() -> None:
    def grow(x: torch.Tensor) -> torch.Tensor:
        return x.add_(1.0)

    x = torch.zeros(3)
    assert check(grow, grow, (x,))[0].kept
    assert x.tolist() == [0.0] * 3
