"""The text of a condition into a tree of columns, literals and calls; every fault with its place."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from registry.errors import UsageError, did_you_mean

FLAG = "--where"
MOST_NESTING = 60  # levels of parentheses, not and minus
MOST_CHARACTERS = 20_000
MOST_DIGITS = 1000  # of a number; Python itself reads no more than 4,300
_SHOWN = 70  # characters of the condition shown with a fault

KEYWORDS = frozenset({"and", "or", "not", "in", "is", "null", "like", "ilike", "between", "true", "false"})
COMPARISONS = {"=": "=", "==": "=", "!=": "<>", "<>": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_NAME, _QUOTED = r"[^\W\d]\w*", r'"(?:[^"]|"")*"|`[^`]*`'
_TOKENS = re.compile(
    rf"""(?P<space>\s+)
    |(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
    |(?P<text>'(?:[^']|'')*')
    |(?P<name>(?:{_NAME}|{_QUOTED})(?:\.(?:{_NAME}|{_QUOTED}|-?\d+)|\[-?\d+\])*)
    |(?P<sign><>|!=|<=|>=|==|!~|[=<>~+\-*/%(),])""",
    re.VERBOSE,
)
_STEP = re.compile(rf"{_NAME}|{_QUOTED}|-?\d+")


@dataclass(frozen=True, slots=True)
class Literal:
    """A number, a text, true, false or null as it is written; ``at`` is its place in the condition."""

    value: str | int | float | bool | None
    at: int


@dataclass(frozen=True, slots=True)
class Column:
    """What a row holds under ``steps``: a column, then keys of objects and indexes of lists."""

    steps: tuple[str, ...]
    at: int
    quoted: bool = False

    @property
    def name(self) -> str:
        return ".".join(self.steps)


@dataclass(frozen=True, slots=True)
class Call:
    """An operator or a function on what ``parts`` are; ``not``, ``and`` and their like among them."""

    name: str
    parts: tuple[Node, ...]
    at: int


Node = Literal | Column | Call


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


def fail(condition: str, at: int, what: str, hint: str = "") -> NoReturn:
    """Raise ``UsageError`` with the condition and a caret under the place ``at``."""
    start = max(0, at - _SHOWN // 2)
    shown = condition[start : start + _SHOWN]
    flat = "".join(" " if c.isspace() else c for c in shown)
    width = sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in flat[: at - start])
    lines = [f"{'…' if start else ''}{flat}", f"{' ' * (width + bool(start))}^", *([hint] if hint else [])]
    raise UsageError(what, where=FLAG, mend="\n  ".join(lines))


def parse(condition: str, functions: Sequence[str]) -> Node:
    """The tree of a condition. Raises ``UsageError`` that shows the place of what is wrong."""
    if len(condition) > MOST_CHARACTERS:
        raise UsageError(f"the condition has more than {MOST_CHARACTERS:,} characters", where=FLAG)
    return _Parser(condition, _tokens(condition), functions).whole()


def _tokens(condition: str) -> list[_Token]:
    found: list[_Token] = []
    at = 0
    while at < len(condition):
        match = _TOKENS.match(condition, at)
        if match is None:
            sign = condition[at]
            if sign in "'\"`":
                fail(condition, at, f"this quote ({sign}) is never closed")
            known = {"&": "and", "|": "or", "!": "not", "“": "'", "”": "'", "‘": "'", "’": "'", "，": ","}
            hint = f"It is spelled  {known[sign]}  here." if sign in known else ""
            fail(condition, at, f'"{sign}" has no meaning here', hint)
        if match.lastgroup != "space":
            found.append(_Token(str(match.lastgroup), match[0], at))
        at = match.end()
    return [*found, _Token("end", "", len(condition))]


class _Parser:
    """Tokens read from left to right, one function a level of precedence."""

    def __init__(self, condition: str, tokens: Sequence[_Token], functions: Sequence[str]) -> None:
        self._condition, self._tokens, self._functions = condition, tokens, functions
        self._next = 0
        self._depth = 0

    def whole(self) -> Node:
        if self._token.kind == "end":
            self._fail("the condition is empty", "For example:  --where \"length(output) > 20 and lang = 'en'\"")
        node = self._or()
        if self._token.kind != "end":
            self._fail(f"the condition should end before {self._spelled()}", self._missing_joint())
        return node

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _fail(self, what: str, hint: str = "", at: int | None = None) -> NoReturn:
        fail(self._condition, self._token.at if at is None else at, what, hint)

    def _spelled(self) -> str:
        return f'"{self._token.text}"' if self._token.text else "the end"

    def _missing_joint(self) -> str:
        return "Conditions are joined with and, or." if self._token.kind in ("name", "text", "number") else ""

    def _word(self) -> str:
        """The next token as a keyword; empty where it is none."""
        word = self._token.text.lower()
        return word if self._token.kind == "name" and word in KEYWORDS else ""

    def _takes(self, *words: str) -> str:
        """Pass over the next token where it is one of ``words``."""
        token = self._token
        word = self._word() if token.kind == "name" else token.text if token.kind == "sign" else ""
        if word and word in words:
            self._next += 1
            return word
        return ""

    def _expect(self, sign: str, why: str) -> None:
        if not self._takes(sign):
            self._fail(f'"{sign}" belongs here, not {self._spelled()}: {why}')

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MOST_NESTING:
            self._fail(f"the condition is nested more than {MOST_NESTING} levels deep")

    def _or(self) -> Node:
        return self._joined("or", self._and)

    def _and(self) -> Node:
        return self._joined("and", self._not)

    def _joined(self, word: str, part: Callable[[], Node]) -> Node:
        at = self._token.at
        parts = [part()]
        while self._takes(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else Call(word, tuple(parts), at)

    def _not(self) -> Node:
        at = self._token.at
        if not self._takes("not"):
            return self._comparison()
        self._deeper()
        node = Call("not", (self._not(),), at)
        self._depth -= 1
        return node

    def _comparison(self) -> Node:
        left = self._sum()
        at = self._token.at
        if sign := self._takes(*COMPARISONS):
            right = self._sum()
            for side in (left, right):
                if isinstance(side, Literal) and side.value is None:
                    self._fail(f"a comparison with null is never true ({sign})", "Write  is null  or  is not null.", at)
            node: Node = Call(COMPARISONS[sign], (left, right), at)
        elif sign := self._takes("~", "!~"):
            match = Call("~", (left, self._pattern("the regular expression behind ~")), at)
            node = Call("not", (match,), at) if sign == "!~" else match
        elif self._takes("is"):
            negated = self._takes("not")
            if not self._takes("null"):
                self._fail(f'"null" belongs here, not {self._spelled()}', "A true or false is a condition by itself.")
            node = Call("is null", (left,), at)
            node = Call("not", (node,), at) if negated else node
        else:
            node = self._worded(left, at)
        if self._token.text in COMPARISONS or self._word() in ("is", "in", "like", "ilike", "between"):
            self._fail("two comparisons in a row", "Join them with and, or put one into parentheses.")
        return node

    def _worded(self, left: Node, at: int) -> Node:
        """``[not] in``, ``between``, ``like`` and ``ilike`` behind a value, where there is one."""
        negated = self._takes("not")
        if self._takes("in"):
            node: Node = Call("in", (left, *self._list()), at)
        elif self._takes("between"):
            low = self._sum()
            if not self._takes("and"):
                self._fail(f'"and" belongs here, not {self._spelled()}: x between 1 and 5')
            node = Call("and", (Call(">=", (left, low), at), Call("<=", (left, self._sum()), at)), at)
        elif word := self._takes("like", "ilike"):
            node = Call(word, (left, self._pattern(f"the pattern behind {word}")), at)
        elif negated:
            self._fail(f"in, like, ilike or between belongs here, not {self._spelled()}")
        else:
            return left
        return Call("not", (node,), at) if negated else node

    def _list(self) -> list[Node]:
        self._expect("(", "lang in ('en', 'de')")
        items = [self._sum()]
        while self._takes(","):
            items.append(self._sum())
        self._expect(")", "the list ends with it")
        return items

    def _pattern(self, what: str) -> Literal:
        if self._token.kind != "text":
            self._fail(f"{what} must be a text in single quotes, not {self._spelled()}")
        pattern = self._primary()
        assert isinstance(pattern, Literal)
        return pattern

    def _sum(self) -> Node:
        return self._chain(("+", "-"), lambda: self._chain(("*", "/", "%"), self._minus))

    def _chain(self, signs: tuple[str, ...], part: Callable[[], Node]) -> Node:
        node = part()
        before = self._depth
        at = self._token.at
        while sign := self._takes(*signs):
            self._deeper()  # each value more is one level more of the tree
            node = Call(sign, (node, part()), at)
            at = self._token.at
        self._depth = before
        return node

    def _minus(self) -> Node:
        at = self._token.at
        if sign := self._takes("-", "+"):
            self._deeper()
            inner = self._minus()
            self._depth -= 1
            if isinstance(inner, Literal) and isinstance(inner.value, int | float) and inner.value is not True:
                return Literal(-inner.value if sign == "-" else inner.value, at)
            return Call("negative", (inner,), at) if sign == "-" else inner
        return self._primary()

    def _primary(self) -> Node:
        token, word = self._token, self._word()
        if word in ("true", "false", "null"):
            self._next += 1
            return Literal({"true": True, "false": False, "null": None}[word], token.at)
        if word:
            self._fail(f'a value belongs here, not "{token.text}"', f'A column of that name is written "{token.text}".')
        if self._takes("("):
            self._deeper()
            node = self._or()
            self._expect(")", "a parenthesis is open")
            self._depth -= 1
            return node
        if token.kind in ("number", "text", "name"):
            self._next += 1
            if token.kind == "number":
                if len(token.text) > MOST_DIGITS:
                    self._fail(f"the number has more than {MOST_DIGITS:,} digits", at=token.at)
                return Literal(_number(token.text), token.at)
            if token.kind == "text":
                return Literal(token.text[1:-1].replace("''", "'"), token.at)
            return self._function(token) if self._token.text == "(" else _column(token)
        self._fail(f"a value belongs here, not {self._spelled()}")

    def _function(self, token: _Token) -> Node:
        name = token.text.lower()
        if name not in self._functions:
            listed = ", ".join(sorted(self._functions))
            hint = f"{did_you_mean(name, self._functions)} Known: {listed}.".lstrip()
            self._fail(f'there is no function "{token.text}"', hint, token.at)
        self._deeper()
        parts: list[Node] = []
        self._takes("(")
        while not self._takes(")"):
            if parts:
                self._expect(",", f"between the values of {name}()")
            parts.append(self._or())
        self._depth -= 1
        return Call(name, tuple(parts), token.at)


def _number(text: str) -> int | float:
    return int(text) if text.isdecimal() else float(text)


def _column(token: _Token) -> Column:
    steps = [match[0] for match in _STEP.finditer(token.text)]
    return Column(tuple(_unquoted(step) for step in steps), token.at, steps[0][0] == '"')


def _unquoted(step: str) -> str:
    if step[0] == '"':
        return step[1:-1].replace('""', '"')
    return step[1:-1] if step[0] == "`" else step
