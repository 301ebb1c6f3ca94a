"""The way into a run, from Python and from the command: everything cheap is checked before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from registry.errors import UsageError

if TYPE_CHECKING:
    from trainkit.config import RunConfig
    from trainkit.run import RunResult


def start(
    config: str | Path | Mapping[str, Any] | None,
    words: Sequence[str] = (),
    *,
    fresh: bool = False,
    quiet: bool = False,
) -> RunResult:
    """Train what a config (a file, or a mapping of keys) and ``key=value`` or ``--key value`` words on top of it say.

    Raises ``Faults`` with all that is wrong with the config, then with the places that it names, within a second;
    then the errors of ``trainkit.run``.
    """
    resolved = checked(config, words)
    from trainkit.run import run

    return run(resolved, fresh=fresh, quiet=quiet)


def checked(config: str | Path | Mapping[str, Any] | None, words: Sequence[str]) -> RunConfig:
    """The resolved config, once everything that can be known before torch loads was looked at."""
    from trainkit.claim import check_free
    from trainkit.config import load_config
    from trainkit.place import is_launched
    from trainkit.preflight import check_places
    from trainkit.reports import check_packages, chosen

    resolved = load_config(config, words)
    check_places(resolved)
    if resolved.do_train and resolved.output_dir and not is_launched():  # other ranks see their own run there
        check_free(Path(resolved.output_dir))
    need_training_packages()
    check_packages(chosen(resolved.report))
    return resolved


def need_training_packages() -> None:
    """Raise ``UsageError`` with the install line where the [train] extra is missing."""
    import importlib.util

    missing = [
        name for name in ("torch", "transformers", "peft", "safetensors") if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise UsageError(
            f"training needs packages that are not installed: {', '.join(missing)}",
            mend='Install them:  pip install "tunekit[train]"',
        )


class CallableModule(ModuleType):
    """What the module ``trainkit.run`` is: once loaded, it stands in the package where the function of its name stood."""

    def __call__(self, config: str | Path | Mapping[str, Any], *words: str, **options: bool) -> RunResult:
        return start(config, words, **options)
