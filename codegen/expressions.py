"""Op -> Triton text: one row for each scalar function, cast, reduction and scan.

A row's texts are format strings over the operands ``{0}``, ``{1}``, ...; ``{T}`` is the Triton type of the computation,
``{axis}`` the dimension's number. What torch computes decides: NaN goes through maxima, integer division rounds down,
``/`` and ``sqrt`` are correctly rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rooftile.errors import InternalError
from rooftile.ir.dtypes import B1, BF16, F8E4M3, F8E5M2, F16, F32, F64, I8, I16, I32, I64, U8, DType

TRITON_TYPE: dict[DType, str] = {
    F64: "tl.float64",
    F32: "tl.float32",
    F16: "tl.float16",
    BF16: "tl.bfloat16",
    F8E4M3: "tl.float8e4nv",
    F8E5M2: "tl.float8e5",
    I64: "tl.int64",
    I32: "tl.int32",
    I16: "tl.int16",
    I8: "tl.int8",
    U8: "tl.uint8",
    B1: "tl.int1",
}


@dataclass(frozen=True)
class Row:
    """The text of one function, by kind of operand; None where the function doesn't take that kind.

    ``double`` replaces ``floats`` for f64 where the language has another spelling. ``exact`` says that a result is the
    same in any float type, so that f16 and bf16 need no detour through fp32. ``gives`` is the type of the text's value
    where it isn't the operands'.
    """

    floats: str | None = None
    ints: str | None = None
    bools: str | None = None
    double: str | None = None
    exact: bool = False
    gives: DType | None = None

    def text(self, dtype: DType) -> str | None:
        """The format string for operands of ``dtype``."""
        if dtype.kind == "bool":
            return self.bools
        if dtype.kind == "int":
            return self.ints
        return self.double if dtype is F64 and self.double else self.floats


def _both(text: str, bools: str | None = None) -> Row:
    return Row(floats=text, ints=text, bools=bools)


def _comparison(operator: str) -> Row:
    text = f"{{0}} {operator} {{1}}"
    return Row(text, text, text, exact=True, gives=B1)


def _bits(operator: str, *, bools: bool = True) -> Row:
    text = f"{{0}} {operator} {{1}}"
    return Row(ints=text, bools=text if bools else None)


def _library(name: str, operands: str = "{0}") -> Row:
    return Row(floats=f"libdevice.{name}({operands})")


_WHERE = "tl.where({0}, {1}, {2})"

POINTWISE: dict[str, Row] = {
    "add": _both("{0} + {1}", bools="{0} | {1}"),
    "sub": _both("{0} - {1}"),
    "mul": _both("{0} * {1}", bools="{0} & {1}"),
    "div": Row(floats="tl.div_rn({0}, {1})", double="{0} / {1}"),
    "floordiv": Row(floats="float_floor_divide({0}, {1})", ints="floor_divide({0}, {1})"),
    "truncdiv": Row(
        floats="libdevice.trunc(tl.div_rn({0}, {1}))", double="libdevice.trunc({0} / {1})", ints="{0} // {1}"
    ),
    "mod": Row(floats="float_floor_mod({0}, {1})", ints="floor_mod({0}, {1})"),
    "fmod": Row(floats="libdevice.fmod({0}, {1})", ints="{0} % {1}"),
    "pow": _library("pow", "{0}, {1}"),
    "maximum": Row(
        floats="tl.maximum({0}, {1}, propagate_nan=tl.PropagateNan.ALL)", ints="tl.maximum({0}, {1})", bools="{0} | {1}"
    ),
    "minimum": Row(
        floats="tl.minimum({0}, {1}, propagate_nan=tl.PropagateNan.ALL)", ints="tl.minimum({0}, {1})", bools="{0} & {1}"
    ),
    "neg": Row(floats="-{0}", ints="-{0}", exact=True),
    "abs": Row(floats="tl.abs({0})", ints="tl.abs({0})", exact=True),
    "sign": _both("({0} > 0).to({T}) - ({0} < 0).to({T})"),
    # The same product that the language's own `exp` takes, without the instructions that keep subnormal results.
    "exp": Row(floats="tl.exp2({0} * 1.4426950408889634)", double="tl.exp({0})"),
    "exp2": Row(floats="tl.exp2({0})"),
    "expm1": _library("expm1"),
    "log": Row(floats="tl.log({0})"),
    "log2": Row(floats="tl.log2({0})"),
    "log1p": _library("log1p"),
    "sqrt": Row(floats="tl.sqrt_rn({0})", double="tl.sqrt({0})"),
    "rsqrt": Row(floats="tl.rsqrt({0})"),
    "reciprocal": Row(floats="tl.div_rn(1.0, {0})", double="1.0 / {0}"),
    "sin": Row(floats="tl.sin({0})"),
    "cos": Row(floats="tl.cos({0})"),
    "tan": _library("tan"),
    "acos": _library("acos"),
    "atan": _library("atan"),
    "tanh": Row(floats="quick_tanh({0})", double="libdevice.tanh({0})"),
    "sigmoid": Row(floats="quick_sigmoid({0})", double="tl.sigmoid({0})"),
    "erf": Row(floats="tl.erf({0})"),
    "erfc": Row(floats="quick_erfc({0})", double="libdevice.erfc({0})"),
    "floor": Row(floats="tl.floor({0})"),
    "ceil": Row(floats="tl.ceil({0})"),
    "round": _library("rint"),
    "trunc": _library("trunc"),
    "isnan": Row(floats="{0} != {0}", exact=True, gives=B1),
    "isinf": Row(floats='tl.abs({0}) == float("inf")', exact=True, gives=B1),
    "eq": _comparison("=="),
    "ne": _comparison("!="),
    "lt": _comparison("<"),
    "le": _comparison("<="),
    "gt": _comparison(">"),
    "ge": _comparison(">="),
    "and": _bits("&"),
    "or": _bits("|"),
    "xor": _bits("^"),
    "not": Row(ints="~{0}", bools="~{0}"),
    "shl": _bits("<<", bools=False),
    "shr": _bits(">>", bools=False),
    "where": Row(_WHERE, _WHERE, _WHERE, exact=True),
}

# Where no narrow float goes in or out of a kernel, errors that grow with the operand would be seen: in fp32, `exp` has
# one from its multiplication by log2(e), `quick_sigmoid` and `quick_erfc` too, `quick_tanh` from its difference.
ACCURATE: dict[str, Row] = {
    "exp": _library("exp"),
    "erfc": _library("erfc"),
    "tanh": _library("tanh"),
    "sigmoid": Row(floats="tl.sigmoid({0})"),
}

_ANY = "tl.max({0}.to(tl.int32), axis={axis}) != 0"
_ALL = "tl.min({0}.to(tl.int32), axis={axis}) != 0"


def _position(combine: str) -> Row:
    text = f"tl.reduce(({{0}}, {{1}}), {{axis}}, {combine})[1]"
    return Row(text, text, text.replace("{0}", "{0}.to(tl.int32)"), gives=I32)


REDUCTIONS: dict[str, Row] = {
    "sum": Row(floats="tl.sum({0}, axis={axis})", ints="tl.sum({0}, axis={axis}, dtype={T})", bools=_ANY),
    "prod": Row(floats="tl.reduce({0}, {axis}, multiply)", ints="tl.reduce({0}, {axis}, multiply)", bools=_ALL),
    "max": Row(floats="tl.reduce({0}, {axis}, maximum_or_nan)", ints="tl.max({0}, axis={axis}).to({T})", bools=_ANY),
    "min": Row(floats="tl.reduce({0}, {axis}, minimum_or_nan)", ints="tl.min({0}, axis={axis}).to({T})", bools=_ALL),
    "any": Row(bools=_ANY),
    "all": Row(bools=_ALL),
    "argmax": _position("first_maximum"),
    "argmin": _position("first_minimum"),
}


def _running(float_combine: str, int_combine: str) -> Row:
    text = "tl.associative_scan({0}, {axis}, %s)"
    return Row(floats=text % float_combine, ints=text % int_combine)


SCANS: dict[str, Row] = {
    "sum": Row(floats="tl.cumsum({0}, axis={axis})", ints="tl.cumsum({0}, axis={axis}, dtype={T})"),
    "prod": Row(floats="tl.cumprod({0}, axis={axis})", ints="tl.cumprod({0}, axis={axis})"),
    "max": _running("maximum_or_nan", "larger"),
    "min": _running("minimum_or_nan", "smaller"),
}


def literal(value: bool | int | float, dtype: DType) -> str:
    """A number of the IR as Triton text that takes the type of what it meets."""
    if dtype.kind == "bool":
        return str(bool(value))
    if dtype.kind == "int":
        return str(int(value))
    number = float(value)
    return repr(number) if abs(number) < float("inf") else f'float("{number}")'


def computation_type(row: Row, dtype: DType) -> DType:
    """The type in which a row is computed on operands of ``dtype``; the result is rounded once, to the IR's type."""
    if not dtype.is_float or dtype.bytes >= 4 or (row.exact and dtype.bytes == 2):
        return dtype
    return F32


def cast(text: str, source: DType, target: DType) -> str:
    """``text`` (an atom of type ``source``) in another type, converted as torch does."""
    if source is target:
        return text
    steps = []
    if source.is_float and source.bytes == 1:
        steps.append(F32)  # fp8 converts to and from fp32 only
    if target.kind == "int" and target.bytes < 4 and source.is_float:
        steps.append(I32)  # out of range wraps around, as it does in torch
    if target.is_float and target.bytes < 4 and source is not F32:
        steps.append(F32)  # torch rounds f64 and integers to fp32 first
    if target.kind != "bool" and target is not F8E5M2:
        steps.append(target)
    converted = text + "".join(f".to({TRITON_TYPE[step]})" for step in dict.fromkeys(steps))
    if target is F8E5M2:
        return f"to_f8e5m2({converted})"
    return f"{converted} != 0" if target.kind == "bool" else converted


def apply(row: Row | None, what: str, operands: Sequence[str], dtype: DType, result: DType, axis: int = 0) -> str:
    """The text of ``row`` as a value of type ``result``. The operands (atoms) have the computation type of ``dtype``.

    Raises:
        InternalError: the function has no text for that type.
    """
    computed = dtype if row is None else computation_type(row, dtype)
    text = None if row is None else row.text(computed)
    if row is None or text is None:
        raise InternalError(f"{what} on {dtype} has no Triton text")
    done = text.format(*operands, T=TRITON_TYPE[computed], axis=axis)
    given = row.gives or computed
    return done if given is result else cast(f"({done})", given, result)
