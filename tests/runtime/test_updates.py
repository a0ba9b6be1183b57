"""Writing in place: what is written over an input lands there without a copy, and only where nobody wants the old."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import rooftile
from rooftile.compilation import Compilation
from rooftile.driver import build_program, collecting
from rooftile.errors import OutOfRangeError
from rooftile.runtime.graphs import GraphProgram
from rooftile.runtime.plan import Call, Plan
from rooftile.runtime.program import Program
from tests.runtime.test_graphs import Again


def run(function: Callable[..., Any], *given: Tensor, dynamic: bool | None = None) -> Compilation:
    """Compile, call twice, and compare results and written inputs with eager's."""
    torch._dynamo.reset()
    with collecting() as compilations, torch.no_grad():
        fast = rooftile.compile(function, dynamic=dynamic)
        ours, theirs = ([x.clone() for x in given] for _ in range(2))
        for _ in range(2):
            before = [x._version for x in (*ours, *theirs)]
            torch.testing.assert_close(fast(*ours), function(*theirs))
            torch.testing.assert_close(ours, theirs)
            grown = [x._version > old for x, old in zip((*ours, *theirs), before, strict=True)]
            assert grown[: len(ours)] == grown[len(ours) :]  # autograd hears of the same writes
    (compilation,) = compilations
    return compilation


def plan_of(function: Callable[..., Any], *given: Tensor, dynamic: bool | None = None) -> Plan:
    plan = run(function, *given, dynamic=dynamic).plan
    assert plan is not None
    return plan


def arguments(plan: Plan) -> list[str]:
    """The names of the results that are arguments."""
    return [plan.buffers[n].name for n in plan.results_that_are_arguments if n is not None]


CACHE, NEW = torch.randn(2, 3, 8, 4), torch.randn(2, 3, 2, 4)


def copied(cache: Tensor, new: Tensor, position: Tensor) -> Tensor:
    cache.index_copy_(2, position, new * 2)
    return cache.sum(-1)


def put(cache: Tensor, new: Tensor, position: Tensor) -> Tensor:
    cache[:, :, position] = new * 2
    return cache.sum(-1)


def sliced(cache: Tensor, new: Tensor, position: Tensor) -> Tensor:
    cache[:, :, 3:5] = new + 1
    return cache.sum(-1)


def in_two_steps(cache: Tensor, new: Tensor, position: Tensor) -> Tensor:
    cache.index_copy_(2, position, new)
    cache[:, :, 7] = new[:, :, 0]
    return cache.sum(-1)


@pytest.mark.parametrize("write", [copied, put, sliced, in_two_steps])
def test_rows_of_a_cache_are_written_where_they_belong(write: Callable[..., Tensor]) -> None:
    plan = plan_of(write, CACHE, NEW, torch.tensor([1, 2]))
    assert not [step for step in plan.steps if isinstance(step, Call)]
    assert arguments(plan) == ["cache"]
    assert not [b for b in plan.buffers if b.type.shape == CACHE.shape and b.home != "argument"]


def test_the_kernel_that_computes_rows_puts_them_into_the_cache() -> None:
    def write(cache: Tensor, new: Tensor, weight: Tensor, position: Tensor) -> Tensor:
        cache.index_copy_(1, position, (new @ weight).relu())
        return cache.sum(-1)

    cache, new, weight = torch.randn(2, 32, 16), torch.randn(2, 3, 16), torch.randn(16, 16)
    torch._dynamo.reset()
    with collecting() as compilations, torch.no_grad():
        fast = rooftile.compile(write, options={"require": ["no-extern"]})
        for at in ([1, 5, 9], [31, 0, 2]):
            ours, theirs, position = cache.clone(), cache.clone(), torch.tensor(at)
            torch.testing.assert_close(fast(ours, new, weight, position), write(theirs, new, weight, position))
            torch.testing.assert_close(ours, theirs)
        with pytest.raises(OutOfRangeError, match="32 elements"):
            fast(cache, new, weight, torch.tensor([0, 1, 32]))
    (compilation,) = compilations
    assert [step.name for step in compilation.plan.steps] == ["contract", "sum"] if compilation.plan else False


def negative(cache: Tensor, new: Tensor, position: Tensor) -> Tensor:
    cache[:, :, position - 8] = new
    return cache.sum(-1)


def by_two_indices(cache: Tensor, new: Tensor, position: Tensor) -> Tensor:
    cache[:, position, position] = new[:, 0]
    return cache.sum(-1)


def one_number_for_all(cache: Tensor, new: Tensor, position: Tensor) -> Tensor:
    cache[:, :, position] = 7.0
    return cache.sum(-1)


def every_second(cache: Tensor, new: Tensor, position: Tensor) -> Tensor:
    cache[:, :, 1:5:2] = new
    return cache.sum(-1)


def summed(cache: Tensor, new: Tensor, position: Tensor) -> Tensor:
    cache.index_put_((position - 1,), new[:, :, :1], accumulate=True)
    return cache.sum(-1)


@pytest.mark.parametrize("write", [negative, by_two_indices, one_number_for_all, every_second, summed])
def test_other_ways_to_write_rows(write: Callable[..., Tensor]) -> None:
    plan = plan_of(write, CACHE, NEW, torch.tensor([1, 2]))
    assert arguments(plan) == ["cache"]
    assert any(isinstance(step, Call) for step in plan.steps) == (write is summed)


def test_rows_in_any_number() -> None:
    def write(cache: Tensor, new: Tensor, start: Tensor) -> Tensor:
        cache.index_copy_(2, torch.arange(new.shape[2]) + start, new)
        return cache.sum(-1)

    torch._dynamo.reset()
    with collecting() as compilations, torch.no_grad():
        fast = rooftile.compile(write, dynamic=True, options={"require": ["no-extern"]})
        ours, theirs, start = CACHE.clone(), CACHE.clone(), torch.tensor(1)
        for count in (5, 7, 6):
            new = torch.randn(2, 3, count, 4)
            torch.testing.assert_close(fast(ours, new, start), write(theirs, new, start))
            torch.testing.assert_close(ours, theirs)
    assert len(compilations) == 1


def test_a_slice_that_starts_anywhere() -> None:
    def write(cache: Tensor, new: Tensor, start: int) -> Tensor:
        cache[:, :, start : start + 2] = new
        return cache.sum(-1)

    with collecting() as compilations, torch.no_grad():
        torch._dynamo.reset()
        fast = rooftile.compile(write, dynamic=True)
        ours, theirs = CACHE.clone(), CACHE.clone()
        for start in (2, 5, 3):
            torch.testing.assert_close(fast(ours, NEW, start), write(theirs, NEW, start))
            torch.testing.assert_close(ours, theirs)
    assert len(compilations) == 1
    assert compilations[0].plan and arguments(compilations[0].plan) == ["cache"]


def test_a_kernel_writes_over_what_it_reads_element_by_element() -> None:
    def count(total: Tensor, x: Tensor) -> Tensor:
        before = total * 2
        total.add_(x.sum())
        return before + x

    plan = plan_of(count, torch.tensor(1.0), torch.randn(5))
    assert arguments(plan) == ["total"]
    assert plan.steps[-1].writes == plan.updated  # behind the one that reads the old value


def old_is_returned(cache: Tensor, new: Tensor) -> Tensor:
    old = cache.clone()
    cache[:, :, 3:5] = new
    return old


def old_is_read_later(cache: Tensor, new: Tensor) -> Tensor:
    old = cache.clone()
    cache[:, :, 3:5] = new
    return cache.sum(-1).softmax(-1)[..., None] + old.cumsum(0).exp()


def neighbours_are_read(cache: Tensor, new: Tensor) -> Tensor:
    cache.copy_(cache.roll(1, dims=2))
    return new


def exchanged(cache: Tensor, new: Tensor) -> Tensor:
    first = cache[:, :, :2].clone()
    cache[:, :, :2] = new
    new.copy_(first)
    return cache.sum()


@pytest.mark.parametrize("function", [old_is_returned, old_is_read_later, neighbours_are_read, exchanged])
def test_what_is_still_wanted_stays(function: Callable[..., Tensor]) -> None:
    run(function, CACHE, NEW)


def test_an_input_that_nobody_writes_to_is_not_written_to() -> None:
    def without(cache: Tensor, new: Tensor, position: Tensor) -> Tensor:
        return cache.index_copy(2, position, new).sum(-1)

    plan = plan_of(without, CACHE, NEW, torch.tensor([1, 2]))
    assert plan.updated == ()


def test_a_scatter_into_what_was_made_here_copies_nothing() -> None:
    def permuted(x: Tensor, order: Tensor) -> Tensor:
        back = torch.zeros_like(order)  # of an empty one, a kernel would make all
        back[order] = torch.arange(len(order))
        return x[back]

    plan = plan_of(permuted, torch.randn(600, 2), torch.randperm(600))  # of few, each row would be chosen elementwise
    assert [step.in_place for step in plan.steps if isinstance(step, Call)] == [True]


def test_a_misaligned_input_is_written_too() -> None:
    given = torch.zeros(2 * 3 * 8 * 4 + 1)[1:].view(2, 3, 8, 4)
    assert given.data_ptr() % 16
    torch._dynamo.reset()
    with torch.no_grad():
        result = rooftile.compile(copied)(given, NEW, torch.tensor([1, 2]))
    wanted = torch.zeros(2, 3, 8, 4)
    torch.testing.assert_close(result, copied(wanted, NEW, torch.tensor([1, 2])))
    torch.testing.assert_close(given, wanted)


def test_a_recorded_program_writes_to_a_cache_that_moves() -> None:
    built: Any = build_program(run(copied, CACHE, NEW, torch.tensor([1, 2])).imported)
    program = built.program
    assert isinstance(program, Program)
    recorded, names = GraphProgram(program, Again()), [b.name for b in program.plan.arguments]
    for number in range(5):
        cache, wanted, position = CACHE.clone(), CACHE.clone(), torch.tensor([number, number + 2])
        given = {"cache": cache, "new": NEW, "position": position}
        written, total = recorded([given[name] for name in names], {})
        assert written is cache
        torch.testing.assert_close(total, copied(wanted, NEW, position))
        torch.testing.assert_close(cache, wanted)


def test_with_gradients_old_and_new_stay_apart() -> None:
    weight = torch.randn(3, 1, 1, requires_grad=True)

    def write(cache: Tensor, new: Tensor, weight: Tensor) -> Tensor:
        cache[:, :, 3:5] = new
        return (cache * weight).sum()

    torch._dynamo.reset()
    ours, theirs = CACHE.clone(), CACHE.clone()
    for cache, function in ((ours, rooftile.compile(write)), (theirs, write)):
        function(cache, NEW, weight).backward()
    assert weight.grad is not None
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(weight.grad / 2, (theirs.sum((0, 2, 3))).view(3, 1, 1))
