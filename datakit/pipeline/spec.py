"""A pipeline file, read and checked: every fault of it told at once, before anything runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from datakit.pipeline import steps as datakit_steps
from datakit.pipeline import trainkit_args
from datakit.pipeline.options import check_options, read_words
from datakit.pipeline.things import Thing, is_there, makes, thing
from registry.errors import Faults, UsageError, did_you_mean, from_os_error, nearest

TOP_KEYS = ("name", "steps", "look_at", "vars")
SHOWN = ("augment",)  # verbs of datakit whose report can be shown at the end
TRAINKIT_KEYS = ("name", "trainkit", "args", "inputs", "outputs", "show")
_VARIABLE = re.compile(r"\$\$|\$\{([^}]*)\}")


@dataclass(frozen=True, slots=True)
class Step:
    """One step. ``verb`` is ``convert`` … or ``trainkit run`` …; ``needs`` are the inputs without which it cannot begin."""

    number: int
    name: str
    verb: str
    options: Mapping[str, Any]
    args: tuple[str, ...] = ()
    show: str | None = None
    needs: tuple[Thing, ...] = ()
    more_inputs: tuple[Thing, ...] = ()
    more_outputs: tuple[Thing, ...] = ()

    @property
    def trainkit_verb(self) -> str | None:
        """``run`` for ``trainkit run``; None for steps of datakit."""
        return self.verb.removeprefix("trainkit ") if self.verb.startswith("trainkit ") else None

    def inputs(self) -> list[Thing]:
        """Everything it reads, as far as that can be told now: entries and configs may appear with earlier steps."""
        verb = self.trainkit_verb
        found = trainkit_args.inputs_of(verb, self.args) if verb else datakit_steps.inputs_of(self.verb, self.options)
        return list(dict.fromkeys((*found, *self.more_inputs)))

    def outputs(self) -> list[Thing]:
        """What it is known to make."""
        verb = self.trainkit_verb
        found = trainkit_args.outputs_of(verb, self.args) if verb else datakit_steps.outputs_of(self.verb, self.options)
        return list(dict.fromkeys((*found, *self.more_outputs)))


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A checked pipeline. ``folder`` is where it lies; ``file`` is the path as the user gave it."""

    name: str
    file: str
    folder: Path
    steps: tuple[Step, ...]
    look_at: Mapping[str, str]


def read_pipeline(file: str | Path, *, shown_as: str | None = None) -> Pipeline:
    """Read and check a pipeline file, in whose folder the process must be; errors call it ``shown_as``.

    Raises ``UsageError`` where it is no YAML mapping, ``Faults`` with everything else that is wrong in it.
    """
    shown_as = shown_as or str(file)
    raw = load_yaml(Path(file), shown_as)
    faults = [
        f'unknown key "{key}". {did_you_mean(str(key), TOP_KEYS)} Known: {", ".join(TOP_KEYS)}'
        for key in raw
        if key not in TOP_KEYS
    ]
    variables = _texts(raw.get("vars"), '"vars"', faults)
    look_at = _texts(_filled(raw.get("look_at"), variables, [], ""), '"look_at"', faults)
    name = raw.get("name", Path(file).stem)
    if not isinstance(name, str) or not name.strip():
        faults.append(f'"name" must be text, not {name!r}')
    raw_steps = raw.get("steps")
    if not isinstance(raw_steps, list) or not raw_steps:
        faults.append('there are no steps: "steps" must be a list of them, such as  - validate: {src: rows.jsonl}')
        raw_steps = []
    found: list[Step] = []
    for number, raw_step in enumerate(raw_steps, start=1):
        step = _step(number, _filled(raw_step, variables, faults, f"step {number}"), faults)
        if step is not None:
            found.append(step)
    _check_names(found, faults)
    _check_inputs(found, faults)
    _check_outputs(found, faults)
    if faults:
        raise Faults(shown_as, faults)
    return Pipeline(str(name), shown_as, Path(file).resolve().parent, tuple(found), look_at)


def _check_outputs(steps: Sequence[Step], faults: list[str]) -> None:
    """What two steps write, the first is said to have made, and the second has replaced."""
    makers: dict[Thing, Step] = {}
    for step in steps:
        for made in step.outputs():
            other = makers.setdefault(made, step)
            if other is not step:
                faults.append(
                    f'step {step.number} ("{step.name}") writes {made.label}, which step {other.number} ("{other.name}") writes too'
                )


def load_yaml(path: Path, shown_as: str) -> dict[str, Any]:
    """The mapping in a YAML file. Raises ``UsageError`` with the line, also where a key stands twice."""
    try:
        value = yaml.load(path.read_text(encoding="utf-8-sig"), _UniqueKeys)  # derived from SafeLoader
    except FileNotFoundError:
        beside = (
            [p.name for p in path.parent.iterdir() if p.suffix in (".yaml", ".yml")] if path.parent.is_dir() else []
        )
        close = nearest(path.name, beside) or sorted(beside)[:5]
        raise UsageError(
            "no such file", where=shown_as, mend=f"Near it: {', '.join(close)}" if close else None
        ) from None
    except IsADirectoryError:
        held = ", ".join(sorted(p.name for p in path.iterdir() if p.suffix in (".yaml", ".yml"))) or "none"
        raise UsageError(
            "this is a folder", where=shown_as, mend=f"Name the pipeline file; those in it: {held}"
        ) from None
    except UnicodeDecodeError as error:
        raise UsageError(f"not UTF-8: {error.reason} at byte {error.start}", where=shown_as) from None
    except OSError as error:
        raise from_os_error(error, "reading a pipeline") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UsageError(f"not YAML: {what}", where=f"{shown_as}, line {mark.line + 1}" if mark else shown_as) from None
    except (ValueError, RecursionError) as error:  # a 13th month, 5,000 digits, 1,000 brackets
        raise UsageError(f"not YAML: a value that cannot be read: {error}", where=shown_as) from None
    if not isinstance(value, dict):
        raise UsageError(
            "a pipeline must be a mapping with a list of steps",
            where=shown_as,
            mend="steps:\n    - validate: {src: rows.jsonl}",
        )
    return value


class _UniqueKeys(yaml.SafeLoader):
    """YAML lets a later key replace an earlier one of the same name in silence; here that is a fault."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen and not key.tag.endswith(":merge"):
                raise yaml.MarkedYAMLError(problem=f'the key "{key.value}" stands twice', problem_mark=key.start_mark)
            seen.add(key.value if isinstance(key.value, str) else id(key))  # type: ignore[arg-type]
        return super().construct_mapping(node, deep)


def _texts(raw: Any, what: str, faults: list[str]) -> dict[str, str]:
    if raw is None:
        return {}
    if not isinstance(raw, dict) or any(isinstance(v, dict | list) or v is None for v in raw.values()):
        faults.append(f"{what} must map names to texts")
        return {}
    return {str(key): str(value) for key, value in raw.items()}


def _filled(value: Any, variables: Mapping[str, str], faults: list[str], where: str) -> Any:
    """``value`` with ``${name}`` replaced in all its texts; ``$$`` stands for one dollar."""
    if isinstance(value, dict):
        return {key: _filled(item, variables, faults, where) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, variables, faults, where) for item in value]
    if not isinstance(value, str):
        return value

    def fill(match: re.Match[str]) -> str:
        if match.group() == "$$":
            return "$"
        name = match.group(1)
        if name not in variables:
            known = ", ".join(variables) or "none"
            faults.append(
                f"{where}: ${{{name}}} is not among vars (there: {known}). {did_you_mean(name, variables)}".rstrip()
            )
        return variables.get(name, match.group())

    return _VARIABLE.sub(fill, value)


def _step(number: int, raw: Any, faults: list[str]) -> Step | None:
    """One step, or None where it is not even known which verb it is; all its faults go to ``faults``."""
    where = f"step {number}"
    if not isinstance(raw, dict):
        faults.append(f"{where}: a step must be a mapping such as  validate: {{src: rows.jsonl}}, not {raw!r}")
        return None
    name = raw.get("name")
    if name is not None and not isinstance(name, str):
        faults.append(f'{where}: "name" must be text, not {name!r}')
        name = str(name)
    where += f' ("{name}")' if name else ""
    verbs = (*datakit_steps.STEPS, "trainkit")
    chosen = [key for key in raw if key in verbs]
    if len(chosen) != 1:
        unknown = [str(key) for key in raw if key not in (*verbs, *TRAINKIT_KEYS)]
        hint = " ".join(f'"{key}" is not a verb. {did_you_mean(key, verbs)}'.rstrip() for key in unknown)
        what = f"it has {len(chosen)} verbs ({', '.join(chosen)})" if chosen else "it has no verb"
        faults.append(f"{where}: {what}; give it exactly one of {', '.join(verbs)}. {hint}".rstrip())
        return None
    verb = chosen[0]
    allowed = TRAINKIT_KEYS if verb == "trainkit" else ("name", verb, *(["show"] if verb in SHOWN else []))
    for key in raw:
        if key not in allowed:
            faults.append(
                f'{where}: unknown key "{key}". {did_you_mean(str(key), allowed)} Known: {", ".join(allowed)}'
            )
    if verb == "trainkit":
        return _trainkit_step(number, name, raw, where, faults)
    options = check_options(verb, raw[verb], where, faults)
    show = _title(raw.get("show"), where, faults) if verb in SHOWN else None
    needs = tuple(datakit_steps.inputs_of(verb, options))
    return Step(number, name or f"{verb} {number}", verb, options, show=show, needs=needs)


def _title(show: Any, where: str, faults: list[str]) -> str | None:
    if show is not None and not isinstance(show, str):
        faults.append(f'{where}: "show" must be a title for what the step prints, not {show!r}')
        return str(show)
    return show


def _trainkit_step(number: int, name: str | None, raw: Mapping[str, Any], where: str, faults: list[str]) -> Step:
    verb = str(raw["trainkit"])
    if verb not in trainkit_args.VERBS:
        known = ", ".join(trainkit_args.VERBS)
        faults.append(
            f'{where}: pipelines do not know "trainkit {verb}". {did_you_mean(verb, trainkit_args.VERBS)} Known: {known}'
        )
    args = read_words(raw.get("args"), f'{where}: "args"', faults)
    if verb in trainkit_args.VERBS and not any(fault.startswith(f'{where}: "args"') for fault in faults):
        faults += [f"{where}: {fault}" for fault in trainkit_args.faults_of(verb, args)]
    inputs = read_words(raw.get("inputs"), f'{where}: "inputs"', faults)
    outputs = read_words(raw.get("outputs"), f'{where}: "outputs"', faults)
    show = _title(raw.get("show"), where, faults)
    name = name or f"{verb} {number}"
    more = tuple(thing(path, "data") for path in inputs)
    needs = (*trainkit_args.must_be_there(verb, args), *more) if verb in trainkit_args.VERBS else more
    # A chat is there for its answer: it is shown even where no title was thought of.
    show = name if show is None and verb == "chat" else show
    return Step(
        number, name, f"trainkit {verb}", {}, tuple(args), show, needs, more, tuple(thing(path) for path in outputs)
    )


def _check_names(steps: Sequence[Step], faults: list[str]) -> None:
    seen: dict[str, int] = {}
    for step in steps:
        if step.name in seen:
            faults.append(f'step {step.number}: the name "{step.name}" is taken by step {seen[step.name]}')
        seen.setdefault(step.name, step.number)
    titles = [step.show for step in steps if step.show]
    for title in sorted({title for title in titles if titles.count(title) > 1}):
        faults.append(f'two steps are shown as "{title}"; give each a title of its own')


def _check_inputs(steps: Sequence[Step], faults: list[str]) -> None:
    """A fault for each input that neither exists nor is made by an earlier step."""
    made: list[Thing] = []
    for step in steps:
        for need in step.needs:
            if need.kind == "entry" and not _settled(need, made):
                faults.append(
                    f'step {step.number} ("{step.name}"): dataset "{need.entry}" is not in {need.path}, and no earlier step registers it'
                )
            elif need.kind != "entry" and not _settled(need, made):
                close = nearest(need.path, [one.path for one in made] + _beside(need.path))
                hint = f" Nearest: {', '.join(close)}" if close else ""
                faults.append(
                    f'step {step.number} ("{step.name}"): there is no {need.path}, and no earlier step makes it.{hint}'
                )
        made += step.outputs() if step.trainkit_verb in (None, *trainkit_args.VERBS) else ()


def _settled(need: Thing, made: Sequence[Thing]) -> bool:
    return is_there(need) or any(makes(one, need) for one in made)


def _beside(path: str) -> list[str]:
    folder = Path(path).parent
    return [str(one) for one in folder.iterdir() if not one.name.startswith(".")] if folder.is_dir() else []
