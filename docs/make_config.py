"""Writes the tables of docs/config.md and docs/keys.md from trainkit/keys.yaml; with --check only compares them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from trainkit.config import ABOUT, PARTS, RunConfig
from trainkit.config_rules import BUILT
from trainkit.keys import key_table

CONFIG, KEYS = Path(__file__).with_name("config.md"), Path(__file__).with_name("keys.md")
TITLES = {
    "run": "The run",
    "model": "The model",
    "data": "The data",
    "method": "What is trained",
    "preference": "Preferences (stages dpo and kto)",
    "loss": "Weights of tokens (stage sft), and noise",
    "optim": "Optimizer and schedule",
    "loop": "Length, batches, logs, checkpoints, evaluation",
    "report": "Trackers",
    "backend": "Several processes",
    "sample": "Answers in chat",
    "export": "Export",
}
WORDS = {
    "str": "text", "int": "whole number", "float": "number", "int|float": "number", "bool": "true or false",
    "bool|str": "true, false or path", "bool|words": "true, false or words", "list[str]": "names", "list[float]": "numbers", "dict": "mapping",
    "str|dict": "text or mapping",
}  # fmt: skip


def main() -> int:
    """Write the pages, or with ``--check`` compare them; 1 where one is out of date."""
    pages = {
        CONFIG: {"used": used(), "renamed": renamed(), "translated": translated()},
        KEYS: {
            "coming": by_reason(lambda s: s["status"] == "refused" and s.get("coming")),
            "never": by_reason(lambda s: s["status"] == "refused" and not s.get("coming")),
            "accepted": by_reason(lambda s: s["status"] == "accepted"),
        },
    }
    return max([write(page, parts) for page, parts in pages.items()])


def write(page: Path, parts: dict[str, Iterator[str]]) -> int:
    """Put each part between its marks in the page; 1 where that cannot be done, or ``--check`` finds a difference."""
    old = page.read_text(encoding="utf-8")
    new = old
    for name, lines in parts.items():
        body = "\n".join(lines)
        new, count = re.subn(
            rf"(<!-- {name}: begin[^>]*-->\n).*?(<!-- {name}: end -->)",
            lambda m, b=body: f"{m[1]}\n{b}\n\n{m[2]}",
            new,
            flags=re.S,
        )
        if count != 1:
            print(f"{page}: the marks of the part {name!r} are not there once", file=sys.stderr)
            return 1
    if "--check" in sys.argv:
        if new != old:
            print(f"{page} is out of date; run:  python docs/{Path(__file__).name}", file=sys.stderr)
        return int(new != old)
    page.write_text(new, encoding="utf-8")
    return 0


def used() -> Iterator[str]:
    """A table for each part of the config, its keys in the order of that part."""
    own = [name for name in RunConfig.__dataclass_fields__ if name not in (*PARTS, *ABOUT)]
    for part, title in TITLES.items():
        yield f"### {title}\n\n| key | type | default | what it does |\n|---|---|---|---|"
        for name in own if part == "run" else PARTS[part].__dataclass_fields__:
            spec = key_table()[name]
            yield f"| `{name}` | {_type(name, spec)} | {_shown(spec['default'])} | {_cell(spec['help'])} |"
        yield ""


def _type(name: str, spec: dict[str, Any]) -> str:
    if "choices" in spec:
        return " ".join(f"`{choice}`" for choice in BUILT.get(name, spec["choices"]))
    low, high = spec.get("min"), spec.get("max")
    within = f", {low} to {high}" if high is not None else f", from {low}" if low is not None else ""
    return WORDS[spec["type"]] + within


def _shown(default: Any) -> str:
    if default is None:
        return "not set"
    return f"`{_word(default)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def renamed() -> Iterator[str]:
    """Older names and what they are called now, of the keys that are read under their newer name."""
    table = key_table()
    yield (
        ", ".join(
            f"`{old}` → `{spec['to']}`"
            for old, spec in table.items()
            if spec["status"] == "renamed" and table[spec["to"]]["status"] == "used"
        )
        + "."
    )


def translated() -> Iterator[str]:
    """Keys of other trainers whose values stand for values of keys here."""
    for name, spec in key_table().items():
        if spec["status"] == "translated":
            meant = [
                f"`{_word(value)}` → " + ", ".join(f"`{key}: {_word(v)}`" for key, v in keys.items())
                for value, keys in spec["means"].items()
                if keys
            ]
            yield f"- `{name}`: {'; '.join(meant)}"


def by_reason(wanted: Callable[[dict[str, Any]], Any]) -> Iterator[str]:
    """A table of the keys that are ``wanted``, those with the same reason in one row."""
    rows: dict[str, list[str]] = {}
    for name, spec in key_table().items():
        if wanted(spec):
            planned = "; coming" if spec["status"] == "accepted" and spec.get("coming") else ""
            rows.setdefault(spec["why"] + planned, []).append(name)
    yield "| keys | why |\n|---|---|"
    for why, names in rows.items():
        yield f"| {' '.join(f'`{name}`' for name in names)} | {_cell(why)} |"


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    sys.exit(main())
