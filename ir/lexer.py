"""IR text as tokens, and a cursor over them that knows where it is when something is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import NamedTuple, NoReturn

from rooftile.errors import ParseError, nearest

_STRING = r'"(?:[^"\\\n]|\\.)*"'
_TOKEN = re.compile(
    rf"""(?P<space>(?:[ \t\r\n]+|\#[^\n]*)+)
    |(?P<value>%(?:[\w.]+|{_STRING}))
    |(?P<string>{_STRING})
    |(?P<float>\d+\.\d+(?:e[+-]?\d+)?|\d+e[+-]?\d+)
    |(?P<int>\d+)
    |(?P<name>[A-Za-z_]\w*|`[^`\n]+`)
    |(?P<loc>@[^\n]*)
    |(?P<sign>\.\.|//|[()\[\]{{}}<>,:=.*%+\-$])
    |(?P<unknown>.)""",
    re.VERBOSE,
)


class Token(NamedTuple):
    """``kind`` is a group's name above; ``text`` is as written; ``start`` counts from the start of the whole text."""

    kind: str
    text: str
    start: int


class Cursor:
    """The tokens of a text, read one by one. ``source`` names the text in messages."""

    def __init__(self, text: str, source: str = "") -> None:
        self._text = text
        self._source = source
        found = _TOKEN.finditer(text)
        self._tokens = [Token(str(m.lastgroup), m.group(), m.start()) for m in found if m.lastgroup != "space"]
        self._tokens.append(Token("end", "", len(text)))
        self._at = 0
        self.token = self._tokens[0]
        for token in self._tokens:
            if token.kind == "unknown":
                self.fail(f"unexpected character {token.text!r}", token)

    def advance(self) -> Token:
        """The current token; the cursor moves behind it."""
        token = self.token
        if token.kind != "end":
            self._at += 1
            self.token = self._tokens[self._at]
        return token

    def following(self) -> Token:
        """The token behind the current one."""
        return self._tokens[min(self._at + 1, len(self._tokens) - 1)]

    def accept(self, text: str) -> bool:
        """Whether the current token is ``text``, which is then read."""
        if self.token.text != text:
            return False
        self.advance()
        return True

    def expect(self, text: str) -> Token:
        """Read ``text``."""
        if self.token.text != text:
            self.fail(f"expected {text!r}, found {self.shown(self.token)}")
        return self.advance()

    def expect_kind(self, kind: str, wanted: str) -> Token:
        """Read a token of ``kind``, which messages call ``wanted``."""
        if self.token.kind != kind:
            self.fail(f"expected {wanted}, found {self.shown(self.token)}")
        return self.advance()

    def name(self, wanted: str = "a name") -> str:
        """Read a name; backticks are taken off."""
        return self.expect_kind("name", wanted).text.strip("`")

    def integer(self) -> int:
        """Read an integer, which may have a sign."""
        sign = -1 if self.accept("-") else 1
        return sign * int(self.expect_kind("int", "an integer").text)

    def separated(self, closing: str) -> Iterable[None]:
        """Yields before each item of a list up to ``closing``, and reads the commas and ``closing``."""
        if self.accept(closing):
            return
        while True:
            yield
            if self.accept(closing):
                return
            if self.token.text != ",":
                self.fail(f"expected ',' or {closing!r}, found {self.shown(self.token)}")
            self.advance()

    @staticmethod
    def shown(token: Token) -> str:
        """A token as messages show it."""
        return "the end of the text" if token.kind == "end" else repr(token.text)

    def fail(self, what: str, token: Token | None = None, *, fix: str = "") -> NoReturn:
        """Raise ParseError at ``token``, by default the current one."""
        start = (token or self.token).start
        line_start = self._text.rfind("\n", 0, start) + 1
        line = self._text.count("\n", 0, start) + 1
        text = self._text[line_start:].split("\n", 1)[0]
        raise ParseError(what, line=line, column=start - line_start + 1, source=self._source, text=text, fix=fix)

    def fail_unknown(self, what: str, name: str, known: Iterable[str], token: Token) -> NoReturn:
        """Raise ParseError about a name that is not ``known``, with the nearest that is."""
        names = list(known)
        self.fail(f"unknown {what} {name!r}", token, fix=nearest(name, names) if names else "")


def unquote(token: Token) -> str:
    """The text that a string token stands for, or a value token's name."""
    text = token.text.removeprefix("%")
    return str(json.loads(text)) if text.startswith('"') else text
