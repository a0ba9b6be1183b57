"""Example arguments for a kernel's own check: values for run-time sizes, and text that makes the buffers."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

from rooftile.codegen.kernel import Blocks, Kernel
from rooftile.ir.core import Graph, Value
from rooftile.ir.expr import Size, Symbol
from rooftile.ir.promises import Promise, promises
from rooftile.ir.substitution import evaluate
from rooftile.ir.visits import row_length

EXAMPLE_SIZE = 300  # no multiple of a tile, so that the edges are tried


@dataclass(frozen=True)
class ExampleSize:
    """A run-time size: its IR name, its variable, and a value that its facts allow."""

    symbol: str
    name: str
    example: int


@dataclass(frozen=True)
class ExampleBuffer:
    """A buffer's variable, and the expression that makes it."""

    name: str
    text: str


def example(
    kernel: Kernel,
    buffers: Mapping[Value, str],
    outputs: int,
    body: Graph | None,
    sizes: Mapping[Symbol, str] = MappingProxyType({}),
    told: Container[Value | None] = (),
) -> dict[str, Any]:
    """The arguments with which a kernel's file checks itself. The first of its ``buffers`` are the inputs of ``body``,
    those in ``told`` tell it which steps to visit, and the last ones are its ``outputs``; ``sizes`` names run-time
    sizes."""
    promised = {} if body is None else promises(body)
    of_body = dict(zip(buffers, () if body is None else body.inputs, strict=False))
    bound = example_sizes(sizes, tuple(buffers))
    bindings = {size.symbol: size.example for size in bound}
    names, first_output = list(buffers.values()), len(buffers) - outputs
    safe = largest_safe_index(tuple(buffers), bindings)
    shown = [
        _visits(v, name, bindings)
        if v in told
        else _integers(v, name, bindings, promised[of_body[v]])
        if of_body.get(v) in promised
        else _buffer(v, name, bindings, output=n >= first_output, largest_index=safe)
        for n, (v, name) in enumerate(buffers.items())
    ]
    return {
        "sizes": [asdict(size) for size in bound],
        "buffers": _with_copies(shown, _copies(body, names)),
        "descriptors": _descriptors(kernel, bindings),
        "grid": kernel.programs(bindings)[0],
        "inputs": [name for v, name in [*buffers.items()][:first_output] if v not in told],
        "outputs": names[first_output:],
    }


def example_sizes(names: Mapping[Symbol, str], buffers: Sequence[Value]) -> list[ExampleSize]:
    """Values for run-time sizes, near ``EXAMPLE_SIZE``, or else the largest with which all buffers have elements:
    where one is as long as a quotient, what it is divided by cannot be large."""
    size = EXAMPLE_SIZE
    while True:
        bound = [_example_size(s, n, size) for s, n in names.items()]
        if size <= 1 or _all_have_elements(buffers, {each.symbol: each.example for each in bound}):
            return bound
        size //= 2


def _all_have_elements(buffers: Sequence[Value], sizes: Mapping[str, int]) -> bool:
    try:
        return all(evaluate(size, sizes) > 0 for value in buffers for size in value.shape)
    except ZeroDivisionError:
        return False


def _example_size(symbol: Symbol, name: str, near: int) -> ExampleSize:
    """The value nearest to ``near`` within the symbol's range, rounded down to its divisor if there is room."""
    value = max(symbol.lo, min(near, near if symbol.hi is None else symbol.hi))
    rounded = value // symbol.divisor * symbol.divisor
    return ExampleSize(symbol.name, name, rounded if rounded >= max(symbol.lo, 1) else rounded + symbol.divisor)


def _buffer(value: Value, name: str, sizes: dict[str, int], *, output: bool, largest_index: int) -> ExampleBuffer:
    """Text for a buffer of random numbers, of integers in ``0 .. largest_index``, or of nothing yet (an ``output``)."""
    shape = _numbers(value.shape, sizes)
    dtype = f"dtype={value.dtype.torch}"
    where = f"{shape}, {dtype}, device=device"
    if output:
        text = f"torch.empty({where})"
    elif value.dtype.is_float:
        text = f"torch.randn({shape}, device=device).to({value.dtype.torch})"
    else:
        text = f"torch.randint(0, {2 if value.dtype.kind == 'bool' else largest_index + 1}, {where})"
    if value.type.strides is not None:
        strides = _numbers(value.type.strides, sizes)
        filled = "" if output else f".copy_({text})"
        text = f"torch.empty_strided({shape}, {strides}, {dtype}, device=device){filled}"
    return ExampleBuffer(name, text)


def _copies(body: Graph | None, names: Sequence[str]) -> list[str | None]:
    """For each output of a region the name of the buffer of which it is a copy with elements replaced, if it is one;
    the buffers of the body's inputs are the first of ``names``."""
    if body is None:
        return []
    scattered = {op.output: names[body.inputs.index(op.inputs[0])] for op in body.ops if op.name == "scatter"}
    return [scattered.get(v) for v in body.outputs]


def _integers(value: Value, name: str, sizes: dict[str, int], promise: Promise) -> ExampleBuffer:
    """Text for a buffer of which the kernel takes more for granted than its dtype: ends, evenly apart, or rows in a
    random order."""
    (length,), size = _shape(value.shape, sizes), evaluate(promise.size, sizes)
    text = f"torch.randperm({size}, device=device)[:{length}]"
    if promise.kind == "ends":
        text = f"(torch.arange(1, {length + 1}, device=device) * {size} // {length + 1})"
    return ExampleBuffer(name, f"{text}.to({value.dtype.torch})")


def _visits(value: Value, name: str, sizes: dict[str, int]) -> ExampleBuffer:
    """Text for the buffer that tells a kernel which steps it is to visit: all of them, in order, none without its
    mask, as is right for all data."""
    *rows, length = (evaluate(size, sizes) for size in value.shape)
    steps = length - evaluate(row_length(0), sizes)
    row = f"torch.tensor([0, {steps}, *range({steps}), 0], dtype={value.dtype.torch}, device=device)"
    return ExampleBuffer(name, f"{row}.expand({(*rows, length)}).contiguous()")


def _descriptors(kernel: Kernel, sizes: Mapping[str, int]) -> list[ExampleBuffer]:
    """Text for the descriptors that a kernel is given, of buffers that are there; of two, these are put into one, so
    that one lies behind the other."""
    found: list[ExampleBuffer] = []
    for param in kernel.params:
        blocks = param.blocks
        if blocks is None:
            continue
        if blocks.other is not None:
            both = f"{blocks.buffer}, {blocks.other}"
            found.append(ExampleBuffer(both, f"torch.stack([{both}])"))
        found.append(ExampleBuffer(param.name, _descriptor(blocks, sizes)))
    return found


def _descriptor(blocks: Blocks, sizes: Mapping[str, int]) -> str:
    shape, strides = ([evaluate(size, sizes) for size in of] for of in (blocks.shape, blocks.strides))
    base, first, steps = evaluate(blocks.base, sizes), blocks.buffer, [str(stride) for stride in strides]
    if base or blocks.other is not None:
        last = str(1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)))
        if blocks.other is not None:  # lies behind all of the first
            steps[0] = f"{first}.numel()"
            last = f"{steps[0]} + {last}"
        first = f"{first}.as_strided(({last},), (1,), {base})"
    return f"TensorDescriptor({first}, {shape}, [{', '.join(steps)}], {list(blocks.tile)})"


def _numbers(of: tuple[Size, ...], sizes: dict[str, int]) -> str:
    return str(_shape(of, sizes))


def _shape(of: tuple[Size, ...], sizes: dict[str, int]) -> tuple[int, ...]:
    return tuple(evaluate(size, sizes) for size in of)


def _with_copies(buffers: Sequence[ExampleBuffer], copies: Sequence[str | None]) -> list[ExampleBuffer]:
    """``buffers``, of which the last ones, the outputs, are ``copies`` where that names others."""
    first = len(buffers) - len(copies)
    outputs = zip(buffers[first:], copies, strict=True)
    return [*buffers[:first], *(b if of is None else replace(b, text=f"{of}.clone()") for b, of in outputs)]


def largest_safe_index(buffers: tuple[Value, ...], sizes: dict[str, int]) -> int:
    """An index that lies in every dimension of every buffer that is longer than 1."""
    lengths = [evaluate(size, sizes) for value in buffers for size in value.shape]
    return min((n for n in lengths if n > 1), default=1) - 1
