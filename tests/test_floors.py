"""The house has four floors and one direction; who imports what is read from the sources."""

import ast
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
FLOORS = ("flows", "tasks", "models", "demo", "cli", "tests")

PURE = {
    "alembic",
    "babel",
    "cryptography",
    "css_inline",
    "duckdb",
    "fsspec",
    "glob",
    "http",
    "imapclient",
    "io.open",
    "jinja2",
    "logging",
    "msoffcrypto",
    "multiprocessing",
    "openpyxl",
    "os",
    "pathlib",
    "prefect",
    "random",
    "requests",
    "secrets",
    "shutil",
    "smtplib",
    "socket",
    "sqlite3",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "time",
    "typer",
    "rich",
    "urllib",
    "yagmail",
}
"""What models/ may not know: files, sockets, clocks, environment, chance, logs, engines, Prefect."""

TASKS_ON_TASKS = {("tasks.outbox", "tasks.mail"), ("tasks.outbox", "tasks.postoffice"), ("tasks.outbox", "tasks.vault")}
"""Where one task file stands on another: the outbox writes and hands over mails, under a key of the vault (docs/decisions/0003)."""


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def sources(floor: str) -> list[Path]:
    return sorted((PROJECT / floor).glob("**/*.py"))


def test_the_reader_of_imports_sees_every_form(tmp_path):
    file = tmp_path / "x.py"
    file.write_text("import os.path\ndef f():\n    from flows import draw\n    import tasks.store as s\n")
    assert imports(file) >= {"os.path", "flows.draw", "tasks.store"}


@pytest.mark.parametrize("path", sources("models"), ids=lambda p: p.name)
def test_models_know_nothing_outside_themselves(path):
    roots = {name.split(".")[0] for name in imports(path)}
    assert not roots & {"tasks", "flows", "demo", "cli"}
    assert not roots & PURE
    assert "open(" not in path.read_text(encoding="utf-8").replace("_open(", "")


@pytest.mark.parametrize("path", sources("tasks"), ids=lambda p: p.name)
def test_task_files_do_not_import_each_other_but_the_settings(path):
    me = ".".join(path.relative_to(PROJECT).with_suffix("").parts[:2])  # a package is one task file of several parts
    for name in imports(path):
        root, _, rest = name.partition(".")
        assert root not in {"flows", "demo", "cli"}
        if root == "tasks" and rest:
            other = f"tasks.{rest.split('.')[0]}"
            assert other in {"tasks.settings", me} or (me, other) in TASKS_ON_TASKS, f"{me} imports {name}"


@pytest.mark.parametrize("path", sources("flows"), ids=lambda p: p.name)
def test_flows_do_not_import_flows_nor_what_stands_above_them(path):
    me = ".".join(path.relative_to(PROJECT).with_suffix("").parts[:2])  # a package is one flow of several parts
    for name in imports(path):
        root, _, rest = name.partition(".")
        assert root not in {"demo", "cli"}
        assert root != "flows" or f"flows.{rest.split('.')[0]}" == me, f"{me} imports {name}"


def test_only_the_settings_read_the_environment():
    for path in [p for floor in ("flows", "tasks", "models") for p in sources(floor)]:
        text = path.read_text(encoding="utf-8")
        if path.name != "settings.py":
            assert "os.environ" not in text, path
            assert "getenv" not in text, path


def test_nobody_imports_smtplib():
    ours = [
        each for each in PROJECT.iterdir() if each.is_dir() and not each.name.startswith(".") and each.name != "var"
    ]
    paths = [path for folder in ours for path in folder.rglob("*.py")]
    assert len(paths) > 200
    for path in paths:
        assert "smtplib" not in {name.split(".")[0] for name in imports(path)}, path


def test_the_clock_is_read_in_the_command_line_and_nowhere_below():
    for path in [p for floor in ("flows", "tasks", "models") for p in sources(floor)]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in {"now", "today", "utcnow"}:
                owner = ast.unparse(node.value)
                assert owner not in {"datetime", "date", "dt.datetime", "dt.date"}, f"{path}: {ast.unparse(node)}"


def test_no_package_is_named_like_the_standard_library():
    for folder in ("flows", "tasks", "models", "demo"):
        assert folder not in sys.stdlib_module_names
    # flows/ comes first on the path of a deployed run, so a file there must not shadow a library.
    for path in sources("flows"):
        assert path.stem == "__init__" or path.stem not in sys.stdlib_module_names


def test_a_task_has_retries_only_where_the_network_is_crossed():
    for floor in ("models",):
        for path in sources(floor):
            assert "retries=" not in path.read_text(encoding="utf-8")
