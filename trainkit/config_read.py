"""What a user wrote, before any of it is checked: a config file, key=value words and --flags, as one mapping."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from registry.errors import UsageError, nearest
from trainkit.keys import TRUTHS, key_table

OPTIONS = ("fresh", "json", "quiet", "help", "debug")  # the command's own, beside which a misspelt flag may lie
NOT_A_MAPPING = "a config must be a mapping of keys to values"

# YAML 1.2's numbers: an exponent makes one, with or without a dot or a sign; colons (base 60) and dates are text.
_FLOAT = re.compile(
    r"""[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?
    |[0-9][0-9_]*[eE][-+]?[0-9]+
    |\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?
    |\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)""",
    re.VERBOSE,
)
_INT = re.compile(r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)")


class ConfigLoader(yaml.SafeLoader):
    """PyYAML's safe loader with the numbers of YAML 1.2, in which 1e-5 is one; yes, no, on and off stay truths."""


ConfigLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] not in ("int", "float", "timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _name, _pattern, _first in (("int", _INT, "-+0123456789"), ("float", _FLOAT, "-+0123456789.")):
    _whole = re.compile(f"(?:{_pattern.pattern})\\Z", _pattern.flags)
    ConfigLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", _whole, list(_first))


@dataclass
class Given:
    """Keys and values as written; ``lines`` and ``origins`` tell where each key stands, ``faults`` what cannot be read."""

    where: str
    raw: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def read_config(source: str | Path | Mapping[str, Any] | None, words: Sequence[str] = ()) -> Given:
    """A YAML or JSON file (or a mapping, or nothing), then ``key=value`` and ``--key value`` words on top, which win.

    Raises ``UsageError`` where the file itself cannot be read.
    """
    if source is None:
        given = Given("command line")
    elif isinstance(source, Mapping):
        given = Given("config", dict(source), origins=dict.fromkeys(map(str, source), "given"))
    else:
        given = _read_file(Path(source))
    for key, value, origin in _read_words(words, given.faults):
        top = key.partition(".")[0]
        given.lines.pop(top, None)
        given.origins[top] = origin
        _put(given.raw, key, value, given.faults)
    return given


def _read_file(path: Path) -> Given:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UsageError("no such config file", where=str(path)) from None
    except UnicodeDecodeError as error:
        raise UsageError(f"the config is not UTF-8: {error.reason} at byte {error.start}", where=str(path)) from None
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=str(path)) from None
    return _read_json(path, text) if path.suffix == ".json" else _read_yaml(path, text)


def _read_yaml(path: Path, text: str) -> Given:
    given = Given(str(path))
    try:
        loader = ConfigLoader(text)
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise UsageError(NOT_A_MAPPING, where=str(path))
        for key_node, _ in node.value:
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key in given.lines:
                given.faults.append(f'line {line}, "{key}" is there twice (first on line {given.lines[key]})')
            given.lines[key] = line
        given.raw = loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f"{path}, line {mark.line + 1}" if mark else str(path)
        raise UsageError(f"not YAML: {getattr(error, 'problem', None) or error}", where=at) from None
    except (ValueError, RecursionError) as error:  # 5,000 digits, 1,000 brackets
        raise UsageError(f"not YAML: a value that cannot be read: {error}", where=str(path)) from None
    for key_node, value_node in node.value:
        if _kind(str(key_node.value)) in ("str", "list[str]", "str|dict") and key_node.value in given.raw:
            given.raw[key_node.value] = _as_written(value_node, given.raw[key_node.value])
    given.origins = {key: f"file, line {given.lines[key]}" if key in given.lines else "file" for key in given.raw}
    return given


def _as_written(node: yaml.Node, value: Any) -> Any:
    """Text that looks like a number keeps its letters: a revision 0123456 is not 42798."""
    if isinstance(node, yaml.SequenceNode) and isinstance(value, list):
        return [_as_written(*pair) for pair in zip(node.value, value, strict=True)]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return node.value if number and isinstance(node, yaml.ScalarNode) else value


def _read_json(path: Path, text: str) -> Given:
    """YAML would nearly do: it knows no tab for indenting, and no pairs of surrogates."""
    faults: list[str] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        faults.extend(f'"{name}" is there twice' for name in dict.fromkeys(names) if names.count(name) > 1)
        return dict(pairs)

    try:
        raw = json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise UsageError(f"not JSON: {error.msg}", where=f"{path}, line {error.lineno}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"not JSON: a value that cannot be read: {error}", where=str(path)) from None
    if not isinstance(raw, dict):
        raise UsageError(NOT_A_MAPPING, where=str(path))
    return Given(str(path), raw, origins=dict.fromkeys(raw, "file"), faults=faults)


def _read_words(words: Sequence[str], faults: list[str]) -> Iterator[tuple[str, Any, str]]:
    """(key, value, where from) of ``key=value``, ``--key value``, ``--key=value`` and, for truths, ``--key`` alone."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            key, equals, text = word.partition("=")
            if equals and key:
                yield key, _value(key, text), "override"
            else:
                faults.append(f'"{word}" is no key=value')
            continue
        name, equals, text = word[2:].partition("=")
        key = name.replace("-", "_")
        kind = _kind(key)
        if kind is None and not equals and _kind(key.removeprefix("no_")) == "bool":
            yield key.removeprefix("no_"), False, "flag"
        elif kind is None:
            near = nearest(key, [*key_table(), *OPTIONS], most=1)
            faults.append(f'"--{name}" is no flag.{f" Did you mean --{near[0]}?" if near else ""}')
            if not equals and rest and not rest[0].startswith("--"):
                rest.pop(0)
        elif equals:
            yield key, _value(key, text, keep_empty=True), "flag"
        elif kind == "bool" and not (rest and rest[0].casefold() in TRUTHS):
            yield key, True, "flag"
        elif not rest or rest[0].startswith("--"):
            if kind in ("bool|str", "bool|words"):
                yield key, True, "flag"
            else:
                faults.append(f'"--{name}" needs a value')
        else:
            texts = [rest.pop(0)]
            while kind.startswith("list") and rest and not rest[0].startswith("--") and "=" not in rest[0]:
                texts.append(rest.pop(0))
            yield key, texts if len(texts) > 1 else _value(key, texts[0], keep_empty=True), "flag"


def _kind(key: str) -> str | None:
    """The type of a key's value, an older name's too; "mapping" for a key within one, None for no key at all."""
    spec = key_table().get(key)
    if spec is None:
        return "mapping" if "." in key and key.partition(".")[0] in key_table() else None
    return str(key_table()[spec["to"]]["type"] if spec["status"] == "renamed" else spec["type"])


def _value(key: str, text: str, *, keep_empty: bool = False) -> Any:
    """A word as its key's type has it: plain text stays as it is, all else is YAML."""
    textual = _kind(key) in ("str", "list[str]", "str|dict")
    if not text:
        return "" if textual and keep_empty else None
    if textual and text not in ("null", "~") and not text.startswith(("'", '"', "[", "{")):
        return text
    try:
        return yaml.load(text, Loader=ConfigLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return text


def _put(raw: dict[str, Any], key: str, value: Any, faults: list[str]) -> None:
    """Set ``a.b`` within the mapping ``a``, which is made where it is missing and copied where it is there."""
    *parents, last = key.split(".")
    target = raw
    for parent in parents:
        inner = target.get(parent)
        if inner is not None and not isinstance(inner, Mapping):
            faults.append(f'"{key}": {parent} is no mapping')
            return
        target[parent] = dict(inner or {})
        target = target[parent]
    target[last] = value
