"""Tags read off the messages: which keys hold role and text, and how the roles are spelled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from registry.datasets import OPENAI_TAGS, Layout, Tags

ROLE_KEYS = ("from", "role", "speaker", "author", "sender", "who")
CONTENT_KEYS = ("value", "content", "text", "message", "utterance", "body")
MOST_ROLES = 12  # a key with more values than this names people, not roles
LONGEST_ROLE = 40  # characters
# How a role may be called, in small letters. "function" and "tool" may be a call or its result: the side tells.
NAMES: dict[str, frozenset[str]] = {
    "user_tag": frozenset(
        {"human", "user", "prompter", "customer", "client", "usr", "question", "questioner", "instruction", "asker",
         "patient", "visitor", "student", "caller", "h", "q"}
    ),
    "assistant_tag": frozenset(
        {"gpt", "assistant", "bot", "model", "ai", "agent", "chatbot", "chatgpt", "answer", "answerer", "bing", "bard",
         "claude", "llm", "machine", "assistant_response", "a"}
    ),
    "system_tag": frozenset({"system", "sys", "developer", "system_prompt"}),
    "observation_tag": frozenset(
        {"observation", "tool_response", "tool_result", "function_response", "function_result", "ipython", "environment"}
    ),
    "function_tag": frozenset({"function_call", "tool_call", "function-call", "tool-call", "action"}),
}  # fmt: skip
EITHER_SIDE = frozenset({"function", "tool", "tools"})
USER_SIDE, MODEL_SIDE = ("user_tag", "observation_tag"), ("assistant_tag", "function_tag")


@dataclass
class Met:
    """How the messages of some rows are spelled: their keys, and each role with the sides it was met on."""

    keys: Counter[str] = field(default_factory=Counter)
    texts: dict[str, Counter[str]] = field(default_factory=dict)  # key -> its short values
    lengths: Counter[str] = field(default_factory=Counter)  # key -> characters of text
    num_messages: int = 0

    def add(self, message: Mapping[str, Any]) -> None:
        """Take note of one message."""
        self.num_messages += 1
        for key, value in message.items():
            self.keys[key] += 1
            if isinstance(value, str):
                self.lengths[key] += len(value)
                found = self.texts.setdefault(key, Counter())
                if len(value) <= LONGEST_ROLE and len(found) <= MOST_ROLES:
                    found[value] += 1


def messages_column(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The one column that holds lists of messages in (nearly) all rows; None where there is none, or several."""
    holding = Counter(
        name for row in rows for name, value in row.items() if isinstance(value, list) and _are_messages(value)
    )
    likely = [name for name, count in holding.items() if count >= 0.9 * len(rows)]
    return likely[0] if len(likely) == 1 else None


def _are_messages(value: Sequence[Any]) -> bool:
    return bool(value) and all(
        isinstance(turn, dict) and any(key in turn for key in ROLE_KEYS) and len(turn) > 1 for turn in value
    )


def infer_tags(rows: Sequence[Mapping[str, Any]], layout: Layout, given: Mapping[str, str]) -> tuple[Tags, list[str]]:
    """The tags that the messages of ``rows`` are spelled with, and what was inferred, told line by line.

    ``given`` tags are not touched. Tags stay as the layout has them where the messages fit them.
    """
    met = Met()
    for message in _messages(rows, layout):
        met.add(message)
    if not met.num_messages:
        return replace(layout.tags, **given), []
    tags, told = _with_keys(met, replace(layout.tags, **given), given)
    roles = met.texts.get(str(tags.role_tag), Counter())
    spelled = {getattr(tags, name) for name in NAMES}
    if set(roles) <= spelled:
        return tags, told
    sides = _sides(rows, layout, str(tags.role_tag))
    chosen, left = _assign(roles, sides, given)
    if not {"user_tag", "assistant_tag"} & chosen.keys():
        return tags, told
    return _with_roles(tags, chosen, given), [*told, *_told(chosen, left, roles)]


def _messages(rows: Iterable[Mapping[str, Any]], layout: Layout) -> Iterator[Mapping[str, Any]]:
    columns = layout.columns
    for row in rows:
        turns = row.get(str(columns.messages))
        beside = [row.get(column) for column in (columns.chosen, columns.rejected) if column]
        yield from (turn for turn in [*(turns if isinstance(turns, list) else []), *beside] if isinstance(turn, dict))


def _with_keys(met: Met, tags: Tags, given: Mapping[str, str]) -> tuple[Tags, list[str]]:
    """``tags`` with the keys that messages have for role and text, where they lack the ones expected."""
    role, content = str(tags.role_tag), str(tags.content_tag)
    if "role_tag" not in given and met.keys[role] < met.num_messages / 2:
        role = next((key for key in ROLE_KEYS if met.keys[key] > met.num_messages / 2), role)
    if "content_tag" not in given and met.keys[content] < met.num_messages / 2:
        others = [key for key, _ in met.lengths.most_common() if key != role]
        content = next((key for key in CONTENT_KEYS if met.keys[key] > met.num_messages / 2), (others or [content])[0])
    if (role, content) == (tags.role_tag, tags.content_tag):
        return tags, []
    base = OPENAI_TAGS if role == "role" else Tags()
    return replace(base, role_tag=role, content_tag=content, **given), [
        f'messages are spelled with "{role}" and "{content}"'
    ]


def _sides(rows: Iterable[Mapping[str, Any]], layout: Layout, role_key: str) -> dict[str, list[int]]:
    """How often each role stood on the user's side and on the model's, counted from the first turn that is no system."""
    sides: dict[str, list[int]] = {}
    for row in rows:
        turns = row.get(str(layout.columns.messages))
        roles = [turn.get(role_key) for turn in turns if isinstance(turn, dict)] if isinstance(turns, list) else []
        names = [role for role in roles if isinstance(role, str)]
        start = 1 if names and names[0].casefold() in NAMES["system_tag"] else 0
        for index, name in enumerate(names[start:]):
            sides.setdefault(name, [0, 0])[index % 2] += 1
    return sides


def _assign(
    roles: Counter[str], sides: Mapping[str, Sequence[int]], given: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """The most frequent spelling of each role, and the spellings for which no role is left."""
    chosen = {name: tag for name, tag in given.items() if name in NAMES}
    left: list[str] = []
    unknown: list[str] = []
    for role, _ in roles.most_common():
        if role in chosen.values():
            continue
        name = _known_as(role, sides.get(role, (0, 0)))
        if name is None:
            unknown.append(role)
        elif name in chosen:
            left.append(role)
        else:
            chosen[name] = role
    for role in unknown:
        on_user, on_model = sides.get(role, (0, 0))
        name = "user_tag" if on_user > on_model else "assistant_tag"
        if name in chosen or on_user == on_model:
            left.append(role)
        else:
            chosen[name] = role
    return chosen, left


def _known_as(role: str, sides: Sequence[int]) -> str | None:
    """The tag that a role goes by its name; for names that mean a call or its result, by the side it stands on."""
    plain = role.strip().casefold().replace(" ", "_")
    if plain in EITHER_SIDE:
        return "observation_tag" if sides[0] >= sides[1] else "function_tag"
    return next((name for name, spellings in NAMES.items() if plain in spellings), None)


def _with_roles(tags: Tags, chosen: Mapping[str, str], given: Mapping[str, str]) -> Tags:
    """``tags`` with the roles that were met; those that were not keep their usual name where nobody else has it."""
    taken = set(chosen.values())
    usual = {f.name: getattr(tags, f.name) for f in fields(Tags) if f.name in NAMES and f.name not in chosen}
    rest = {name: tag if tag not in taken or name in given else None for name, tag in usual.items()}
    return replace(tags, **{**rest, **chosen})


def _told(chosen: Mapping[str, str], left: Sequence[str], roles: Counter[str]) -> list[str]:
    named = ", ".join(f'{name}="{tag}" ({roles[tag]:,} turns)' for name, tag in chosen.items() if roles[tag])
    told = [f"roles are spelled {named}"] if named else []
    if left:
        listed = ", ".join(f'"{role}" ({roles[role]:,} turns)' for role in left)
        told.append(
            f"no tag is left for {listed}: an entry has one name for each role, and rows with another are rejected"
            " (datakit validate --fix --clean FILE gives them that name)"
        )
    return told
