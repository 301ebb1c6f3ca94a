"""Every module loads and says what it is for; imports go one way; --help loads nothing heavy."""

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, run_python

PACKAGES = ("registry", "datakit", "prompts", "trainkit")
# package -> which of our packages it may import, and which heavy libraries it may never name
ARROWS = {
    "registry": (set(), {"torch", "transformers", "peft"}),
    "prompts": (set(), {"torch", "transformers", "peft"}),
    "datakit": ({"registry", "prompts"}, {"torch", "transformers", "peft"}),
    "trainkit": ({"registry"}, set()),
}
HEAVY = ("torch", "transformers", "peft", "pyarrow", "matplotlib", "tokenizers", "numpy", "datasets", "huggingface_hub")


def modules_of(package):
    found = importlib.import_module(package)
    return [package, *(m.name for m in pkgutil.walk_packages(found.__path__, f"{package}."))]


def files_of(package):
    return sorted((REPOSITORY / package).rglob("*.py"))


def imports_of(path: Path, *, deep: bool):
    """The top-level packages that a file imports; with ``deep`` also inside functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if deep else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield str(node.module).partition(".")[0]


@pytest.mark.parametrize("name", [name for package in PACKAGES for name in modules_of(package)])
def test_every_module_loads(name):
    if name.startswith("trainkit"):
        for needed in ("torch", "transformers", "peft"):
            pytest.importorskip(needed, reason="needs the [train] extra")
    importlib.import_module(name)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_opens_with_a_docstring(package):
    missing = [str(p) for p in files_of(package) if not ast.get_docstring(ast.parse(p.read_text(encoding="utf-8")))]
    assert missing == []


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_one_way(package):
    allowed, never = ARROWS[package]
    for path in files_of(package):
        named = set(imports_of(path, deep=True))
        assert (named & set(PACKAGES)) - {package} <= allowed, path
        assert not named & never, path


@pytest.mark.parametrize("package", ["registry", "prompts", "datakit"])
def test_loading_all_of_a_package_loads_neither_torch_nor_transformers_nor_trainkit(package):
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        "print(sorted({'torch', 'transformers', 'peft', 'trainkit'} & set(sys.modules)))"
    )
    done = run_python(code, *modules_of(package))
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("kit", ["datakit", "trainkit"])
@pytest.mark.parametrize("arguments", [["--help"], ["VERB", "--help"]])
def test_help_loads_nothing_heavy(kit, arguments):
    code = (
        "import sys\n"
        "from importlib import import_module\n"
        "cli = import_module(f'{sys.argv[1]}.cli')\n"
        "verbs = [c.name or c.callback.__name__ for c in cli.app.registered_commands]\n"
        "for verb in verbs if 'VERB' in sys.argv else [None]:\n"
        "    sys.argv = [sys.argv[0], *([verb] if verb else []), '--help']\n"
        "    try: cli.main()\n"
        "    except SystemExit as end: assert end.code == 0, end\n"
        f"print('loaded:', sorted(set({HEAVY}) & set(sys.modules)))"
    )
    done = run_python(code, kit, *arguments)
    assert done.stdout.splitlines()[-1] == "loaded: []", done.stderr
    assert "Usage" in done.stdout
