"""The head of a recipe file: YAML between two lines of ---, checked as a whole, every fault with its line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from registry.errors import Faults, UsageError, did_you_mean, nearest
from registry.secrets import is_secret
from registry.stages import KINDS

if TYPE_CHECKING:  # yaml is loaded only where a recipe is
    import yaml

OUTPUTS = ("text", "thought", "texts", "pairs", "instructions", "dialogues", "score", "verdict")
LISTS = ("texts", "pairs", "instructions", "dialogues")  # outputs of which one answer holds several
SEEDS = ("chat", "text", "pool", "none")
MAKES = ("new", "same")
KEYS = (
    *("name", "version", "language", "summary", "seeds", "output", "makes", "n", "per_call", "stages", "inputs"),
    *("sampling", "ways", "topics"),
)
REQUIRED = ("name", "version", "output")
# Values that the run gives to bodies, so that no input may be called so; ``datakit.recipes.recipe`` tells which body gets which.
GIVEN = ("n", "already", "seed", "pool", "way", "ways", "topic", "topics", "texts", "answer_a", "answer_b")
PER_CALL = 5  # rows asked for in one call where the file does not say
SAMPLING = (
    *("temperature", "top_p", "top_k", "min_p", "max_tokens", "max_completion_tokens", "stop", "seed"),
    *("presence_penalty", "frequency_penalty", "repetition_penalty", "reasoning_effort"),
)
NOT_SAMPLING = ("model", "messages", "stream", "n", "response_format")  # what the run itself sets
_FENCE = "---"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Head:
    """The keys of one recipe file with defaults filled in.

    ``seeds`` is what it is made from (chat, text, pool, none), ``output`` how the answer is read (``OUTPUTS``),
    ``makes`` whether rows stand beside the seeds (new) or each seed becomes one (same). ``n`` rows are made of a seed,
    at most ``per_call`` in one call. ``inputs`` are what ``--set`` may fill, with defaults (None: must be given);
    ``data`` holds ``ways`` and ``topics``.
    """

    name: str
    version: int
    language: str
    summary: str
    seeds: str
    output: str
    makes: str
    n: int
    per_call: int
    stages: tuple[str, ...]
    inputs: Mapping[str, Any]
    sampling: Mapping[str, Any]
    data: Mapping[str, Any]


def split_file(text: str, where: str) -> tuple[str, str, int]:
    """The YAML of a recipe file, its body, and the line (from 1) at which the body begins.

    Raises ``UsageError`` where the file does not begin with ``---``, or nothing ends the head.
    """
    lines = text.split("\n")
    mend = "A recipe begins with its keys between two lines of ---:  ---, name: …, version: 1, output: pairs, ---"
    if lines[0].rstrip() != _FENCE:
        raise UsageError("the file does not begin with a line of ---", where=f"{where}, line 1", mend=mend)
    for number, line in enumerate(lines[1:], start=2):
        if line.rstrip() == _FENCE:
            return "\n".join(lines[1 : number - 1]), "\n".join(lines[number:]), number + 1
    raise UsageError("no second line of --- ends the keys", where=where, mend=mend)


def read_head(text: str, where: str) -> Head:
    """Check the YAML of a recipe file. Raises ``UsageError`` where it is no YAML, ``Faults`` with all else."""
    raw, lines = _load(text, where)
    faults: list[tuple[int, str]] = []

    def fault(key: str, what: str) -> None:
        faults.append((lines.get(key, 0), what))

    def take(key: str, default: Any, wanted: str, fits: Callable[[Any], bool]) -> Any:
        value = raw.get(key, default)
        if key not in raw or fits(value):
            return value
        quotes = " (in quotes?)" if wanted == "text" else ""
        fault(key, f'"{key}" must be {wanted}{quotes}, not {value!r}')
        return default

    for key in raw:
        if key not in KEYS:
            fault(key, f'unknown key "{key}". {did_you_mean(key, KEYS)} Known: {", ".join(KEYS)}')
    missing = [key for key in REQUIRED if key not in raw and not _misspelt(key, raw)]
    faults += [(0, f'"{key}" is missing') for key in missing]
    texts = {
        key: take(key, default, "text", _is_text)
        for key, default in (("name", ""), ("language", "en"), ("summary", ""))
    }
    chosen = {
        key: _choice(key, raw.get(key, default), known, default, fault)
        for key, default, known in (("seeds", "chat", SEEDS), ("output", "text", OUTPUTS), ("makes", "new", MAKES))
    }
    if chosen["makes"] == "same" and chosen["seeds"] in ("pool", "none"):
        fault(
            "makes", f'"makes: same" keeps each seed as a row, and with "seeds: {chosen["seeds"]}" there is no such row'
        )
    several = PER_CALL if chosen["output"] in LISTS else 1
    numbers = {
        key: take(key, default, "a whole number from 1", _is_count)
        for key, default in (("version", 1), ("n", 1), ("per_call", several))
    }
    stages = take("stages", ["sft"], "a list of stages, such as [sft]", _is_texts)
    for stage in stages:
        if stage not in KINDS:
            fault("stages", f'unknown stage "{stage}". {did_you_mean(stage, KINDS)} Known: {", ".join(KINDS)}')
    inputs = take("inputs", {}, 'names with their defaults, such as {tone: ""}', _is_plain_mapping)
    for name in inputs:
        if not _NAME.fullmatch(name):
            fault("inputs", f'the input "{name}" must be letters, digits and _, as bodies name it')
        elif name in GIVEN:
            fault("inputs", f'no input can be called "{name}": the run gives that value itself')
    sampling = take("sampling", {}, "settings with their values, such as {temperature: 0.9}", _is_sampling)
    _check_sampling(sampling, fault)
    data: dict[str, Any] = {}
    if "ways" in raw:
        ways = take("ways", {}, "names with what to do, such as {depth: ask deeper}", _is_ways)
        data["ways"] = ways
    if "topics" in raw:
        data["topics"] = tuple(take("topics", [], "a list of texts", _is_texts))
    if faults:
        raise Faults(where, told_by_line(faults))
    keys: dict[str, Any] = {**texts, **chosen, **numbers}
    return Head(**keys, stages=tuple(stages), inputs=inputs, sampling=sampling, data=data)


def told_by_line(faults: Iterable[tuple[int, str]]) -> list[str]:
    """(line, fault) in the order of lines, each once; line 0 is no line."""
    told = dict.fromkeys(sorted(faults))
    return [" ".join((f"line {line}: {what}" if line else what).split()) for line, what in told]


def _misspelt(key: str, raw: Mapping[str, Any]) -> bool:
    """Whether some unknown key means this one: then the hint there is enough."""
    return any(nearest(other, KEYS)[:1] == [key] for other in raw if other not in KEYS)


def _choice(key: str, value: Any, known: Sequence[str], default: str, fault: Callable[[str, str], None]) -> str:
    if isinstance(value, str) and value in known:
        return value
    hint = did_you_mean(value, known) if isinstance(value, str) else ""
    fault(key, f'unknown {key} "{value}". {hint} Known: {", ".join(known)}')
    return default


def _check_sampling(sampling: Mapping[str, Any], fault: Callable[[str, str], None]) -> None:
    for name in sampling:
        if is_secret(name):
            fault("sampling", f'"{name}" in sampling looks like a secret; keys come from the environment only')
        elif name in NOT_SAMPLING:
            fault("sampling", f'"{name}" is set by the run, it cannot stand in sampling')
        elif name not in SAMPLING and (hint := did_you_mean(name, SAMPLING)):
            fault("sampling", f'unknown setting "{name}" in sampling. {hint}')


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_text, value))


def _is_plain_mapping(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str) and (item is None or isinstance(item, str | int | float)) for name, item in value.items()
    )


def _is_sampling(value: Any) -> bool:
    """As inputs, but ``stop`` is a list as well."""
    return isinstance(value, dict) and _is_plain_mapping({k: v for k, v in value.items() if not _is_texts(v)})


def _is_ways(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(_is_text(k) and _is_text(v) for k, v in value.items())


def _load(text: str, where: str) -> tuple[dict[str, Any], dict[str, int]]:
    """The mapping, and the line in the file of each key. The head's first line is the file's second."""
    import yaml

    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise UsageError(
                "the head of a recipe must be keys and values", where=where, mend="For example  name: mine"
            )
        lines = _lines_of(node)
        return {str(key): value for key, value in loader.construct_document(node).items()}, lines
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        place = f"{where}, line {mark.line + 2}" if mark else where
        raise UsageError(f"not YAML: {what}", where=place) from None
    except (ValueError, TypeError, RecursionError) as error:  # a 13th month, a list as a key, 1,000 brackets
        raise UsageError(f"not YAML: a value that cannot be read: {error}", where=where) from None
    finally:
        loader.dispose()


def _lines_of(node: yaml.MappingNode) -> dict[str, int]:
    import yaml

    lines: dict[str, int] = {}
    for key, _ in node.value:
        name = str(key.value)
        if name in lines:
            raise yaml.MarkedYAMLError(problem=f'the key "{name}" stands twice', problem_mark=key.start_mark)
        lines[name] = key.start_mark.line + 2
    return lines
