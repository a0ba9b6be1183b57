"""The messages that users read."""

from __future__ import annotations

import pickle

import pytest

from rooftile.errors import InternalError, ParseError, RequirementError, RooftileError, UserError, nearest


def test_a_message_says_what_where_and_the_fix() -> None:
    error = UserError("input 0 has rank 2, the plan wants 3", where="model.py:12, in self.attn", fix="add a batch axis")
    assert str(error) == (
        "input 0 has rank 2, the plan wants 3\n  at: model.py:12, in self.attn\n  fix: add a batch axis"
    )


def test_a_message_leaves_out_what_is_not_known() -> None:
    assert str(UserError("no more to say")) == "no more to say"


def test_a_requirement_names_itself() -> None:
    error = RequirementError("no-extern", "aten.sort runs as a library call", where="model.py:7")
    assert str(error) == "require='no-extern' does not hold: aten.sort runs as a library call\n  at: model.py:7"


def test_a_parse_error_points_at_the_column() -> None:
    error = ParseError(
        "unknown op 'redcue'", line=3, column=6, source="g.ir", text="%1 = redcue %0", fix="use 'reduce'"
    )
    assert str(error).splitlines() == [
        "unknown op 'redcue'",
        "  at: g.ir:line 3, column 6",
        "  fix: use 'reduce'",
        "    %1 = redcue %0",
        "         ^",
    ]


def test_an_internal_error_carries_the_way_to_it() -> None:
    before = ["canonicalize", "axes"]
    error = InternalError("no axis i", pass_name="fuse", passes_before=before, op="%3 = add", repro="/tmp/r.py")
    assert str(error).splitlines()[:5] == [
        "no axis i",
        "  in pass: fuse",
        "  after: canonicalize -> axes",
        "  op: %3 = add",
        "  repro: /tmp/r.py",
    ]
    assert not isinstance(error, UserError)


@pytest.mark.parametrize(
    "error",
    [
        UserError("what", where="here", fix="so"),
        RequirementError("no-breaks", "a break", fix="so"),
        ParseError("what", line=1, column=2, text="xy"),
        InternalError("what", pass_name="tile", passes_before=["fuse"]),
    ],
)
def test_errors_cross_processes(error: RooftileError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_nearest_in_any_case() -> None:
    assert nearest("Ful", ["None", "Quick", "Full"]) == "did you mean 'Full'? allowed: None, Quick, Full"
    assert nearest("xyz", ["none", "quick"]) == "allowed: none, quick"
