# SPDX-License-Identifier: Apache-2.0
"""Imports point one way, from the command line down to core, never sideways, and inside a room never in a circle."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import dni_driver

PACKAGE = "dni_driver"
SOURCE = Path(dni_driver.__file__).parent

LAYERS = (
    {"cli"},
    {"plugin", "agent", "console"},
    {"mesos", "discovery"},
    {"registry", "store", "kernel"},
    {"core"},
)
"""Highest first: a room imports rooms of lower layers, and itself."""

EFFECTS = {"docker", "flask", "os", "pathlib", "pyroute2", "socket", "sqlite3", "subprocess", "threading"}
"""What core has no use for: it decides, others do."""


def layer_of(room: str) -> int:
    """Answer how far down a room lies; fail for a room that has no place in the order yet."""
    for layer, rooms in enumerate(LAYERS):
        if room in rooms:
            return layer
    pytest.fail(f"room {room!r} has no layer: add it to LAYERS, and to the order of rooms in the documentation")


def may_import(importer: str, imported: str) -> bool:
    return importer == imported or layer_of(importer) < layer_of(imported)


def rooms() -> set[str]:
    """Answer every room there is: a folder or module straight under the package."""
    folders = {path.name for path in SOURCE.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    modules = {path.stem for path in SOURCE.glob("*.py")}
    return folders | modules - {"__init__", "__main__"}


def imports_of(source: str, package: list[str]) -> Iterator[list[str]]:
    """Name each module that a source imports, in parts; `package` is where it lies, for relative imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = base + (node.module.split(".") if node.module else [])
            yield from ([*module, alias.name] for alias in node.names)


def edges() -> Iterator[tuple[Path, str, str]]:
    """Answer each import of a room by a room: where, from which, to which."""
    for path in sorted(SOURCE.rglob("*.py")):
        inside = path.relative_to(SOURCE)
        if len(inside.parts) < 2:
            continue
        package = [PACKAGE, *inside.parts[:-1]]
        for module in imports_of(path.read_text(encoding="utf-8"), package):
            if module[0] == PACKAGE and len(module) > 1 and module[1] in rooms():
                yield inside, inside.parts[0], module[1]


def folders() -> list[Path]:
    """Answer every room and sub-room."""
    return sorted(path.parent for path in SOURCE.rglob("__init__.py") if path.parent != SOURCE)


def neighbours(folder: Path, inside: list[str]) -> dict[str, set[str]]:
    """Answer what each module and sub-room straight in a folder imports of those beside it; `inside` is its package.

    What is had from the folder's own door comes from `__init__`.
    """
    names = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    found: dict[str, set[str]] = {name: set() for name in names}
    for path in folder.rglob("*.py"):
        one, *deeper = path.relative_to(folder).with_suffix("").parts
        package = [*inside, one, *deeper][:-1]
        for module in imports_of(path.read_text(encoding="utf-8"), package):
            if module[: len(inside)] == inside:
                other = module[len(inside)] if len(module) > len(inside) else "__init__"
                found[one].add(other if other in names else "__init__")
        found[one].discard(one)
    return found


def circle(found: dict[str, set[str]]) -> list[str]:
    """Answer modules or sub-rooms that import each other in a circle, none where there is no such."""
    try:
        TopologicalSorter(found).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_every_room_has_a_layer() -> None:
    assert {room for layer in LAYERS for room in layer} >= rooms()


def test_no_room_imports_upwards_or_sideways() -> None:
    wrong = [f"{path} imports {imported}" for path, room, imported in edges() if not may_import(room, imported)]
    assert wrong == []


@pytest.mark.parametrize("folder", folders(), ids=lambda folder: str(folder.relative_to(SOURCE)))
def test_what_stands_side_by_side_never_imports_each_other_in_a_circle(folder: Path) -> None:
    assert circle(neighbours(folder, [PACKAGE, *folder.relative_to(SOURCE).parts])) == []


@pytest.mark.parametrize("room", ["core", "kernel"])
def test_a_sub_room_is_entered_without_loading_all_that_is_in_it(room: str) -> None:
    doors = (SOURCE / room).glob("*/__init__.py")
    loading = [str(door.relative_to(SOURCE)) for door in doors if list(imports_of(door.read_text(), []))]
    assert loading == []


def test_core_has_no_use_for_what_has_effects() -> None:
    found = {
        (path.name, module[0])
        for path in (SOURCE / "core").rglob("*.py")
        for module in imports_of(path.read_text(encoding="utf-8"), [PACKAGE, "core"])
        if module[0] in EFFECTS
    }
    assert found == set()


@pytest.mark.parametrize(("file", "imported"), [("__init__.py", set()), ("__main__.py", {"cli"})])
def test_the_package_itself_is_a_door_to_the_command_line_at_the_most(file: str, imported: set[str]) -> None:
    modules = imports_of((SOURCE / file).read_text(encoding="utf-8"), [PACKAGE])
    assert {module[1] for module in modules if module[0] == PACKAGE} == imported


@pytest.mark.parametrize("program", ["serve_agent", "serve_plugin"])
def test_a_program_loads_the_parts_of_pyroute2_that_it_uses_and_not_its_front_door(program: str) -> None:
    look = (
        f"import sys, {PACKAGE}.cli.{program}; print(*(name for name in sys.modules if name.startswith('pyroute2.')))"
    )
    done = subprocess.run([sys.executable, "-c", look], stdout=subprocess.PIPE, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "pyroute2.iproute" in loaded
    assert loaded & {"pyroute2.ndb", "pyroute2.ethtool", "pyroute2.ipset", "pyroute2.plan9"} == set()


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("cli", "core", True),
        ("plugin", "store", True),
        ("store", "store", True),
        ("core", "store", False),
        ("kernel", "plugin", False),
        ("plugin", "agent", False),
        ("store", "kernel", False),
    ],
)
def test_the_rule_is_the_one_meant(importer: str, imported: str, allowed: bool) -> None:  # noqa: FBT001
    assert may_import(importer, imported) is allowed


def test_a_room_without_a_layer_is_noticed() -> None:
    with pytest.raises(pytest.fail.Exception, match="room 'attic' has no layer"):
        may_import("attic", "core")


@pytest.mark.parametrize(
    ("source", "room"),
    [
        ("import dni_driver.store.database", "store"),
        ("from dni_driver import store", "store"),
        ("from dni_driver.store.database import Store", "store"),
        ("from ..store import Store", "store"),
        ("from .. import store", "store"),
        ("from . import wire", "plugin"),
        ("def f():\n    from dni_driver.store import Store", "store"),
        ("if TYPE_CHECKING:\n    from dni_driver.store import Store", "store"),
    ],
)
def test_every_form_of_import_is_seen(source: str, room: str) -> None:
    (module,) = imports_of(source, [PACKAGE, "plugin"])
    assert module[:2] == [PACKAGE, room]


@pytest.mark.parametrize(
    ("first", "second", "in_a_circle"),
    [
        ("import shop.yard.shed", "", False),
        ("import shop.yard.shed", "from shop.hall import bench", True),
        ("from shop import yard", "from .. import hall", True),
        ("from shop.hall.bench import Vice", "", False),
        ("from shop import KEY", "", False),
    ],
)
def test_a_circle_between_sub_rooms_is_noticed(tmp_path: Path, first: str, second: str, in_a_circle: bool) -> None:  # noqa: FBT001
    for name, text in {"hall/bench": first, "yard/shed": second, "hall/__init__": "", "yard/__init__": ""}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "__init__.py").write_text("KEY = 1")
    assert bool(circle(neighbours(tmp_path, ["shop"]))) is in_a_circle


def test_a_module_that_takes_from_its_own_door_what_the_door_took_from_it_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "__init__.py").write_text("from shop.bench import Vice")
    (tmp_path / "bench.py").write_text("from shop import Vice")
    assert circle(neighbours(tmp_path, ["shop"])) != []
