"""Who may import whom: the layout as a table, so that a shortcut across it fails before it becomes a habit.

Order and chains of imports are import-linter's (`pyproject.toml`); this table is exact, row by row. A place
may import itself, what its row names, and what those may import in turn; a single module in a row brings
nothing more.
"""

import ast
from collections.abc import Iterator, Set
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("hub", "persistence")

MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "hub.domain": (),
    "hub.wire": ("hub.domain",),
    "hub.ports": ("hub.domain",),
    "hub.dispatch": ("hub.domain", "hub.ports"),
    "hub.identity": ("hub.domain",),
    "hub.clock": (),
    "hub.signature": ("hub.domain",),
    "hub.limiter": (),
    "hub.logs": (),
    "hub.metrics": ("hub.domain",),
    "hub.desk": ("hub.dispatch",),
    "hub.control": ("hub.dispatch",),
    "hub.booking": ("hub.dispatch",),
    "hub.checkout": ("hub.booking",),
    "hub.sockets": ("hub.wire", "hub.desk", "hub.identity", "hub.limiter"),
    "hub.loops": ("hub.dispatch", "hub.ports", "hub.sockets.registry"),
    "hub.api": (
        "hub.booking",
        "hub.checkout",
        "hub.control",
        "hub.desk",
        "hub.identity",
        "hub.limiter",
        "hub.signature",
        "hub.wire",
    ),
    "hub.realtime": ("hub.sockets", "hub.wire"),
    "hub.console": (),
    "hub.client": ("hub.wire",),
    "hub.settings": ("hub",),
    "hub.cli": ("hub",),
    "hub.__main__": ("hub",),
    "hub.node": ("hub",),
    "hub.app": ("hub", "persistence"),
    "persistence.redis": ("hub.domain",),
    "persistence.postgres": ("hub.domain",),
    "persistence.embedded": (),
}


def test_every_import_follows_the_table() -> None:
    assert list(shortcuts(ROOT)) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("hub/domain/plan.py", "from hub.wire import codec"),
        ("hub/domain/plan.py", "from hub import wire"),
        ("hub/domain/plan.py", "from ..wire import codec"),
        ("hub/domain/plan.py", "def late():\n    import hub.wire.codec"),
        ("hub/wire/codec.py", "import hub.ports"),
        ("hub/dispatch.py", "from hub.wire import codec"),
        ("hub/loops/sweeper.py", "from hub.sockets import outbox"),
        ("hub/loops/sweeper.py", "from hub.wire import codec"),
        ("hub/api/admin.py", "from hub.sockets.registry import Registry"),
        ("hub/client/session.py", "from hub.dispatch import Dispatcher"),
        ("hub/cli/dev.py", "from persistence.embedded import launcher"),
        ("hub/api/admin.py", "if TYPE_CHECKING:\n    import persistence"),
        ("persistence/redis/keys.py", "from hub.ports import Sessions"),
        ("persistence/redis/keys.py", "from persistence.postgres import pool"),
        ("persistence/embedded/process.py", "from hub.domain import plan"),
        ("hub/extra.py", ""),
        ("hub/domain/plan.py", "from tests import doubles"),
    ],
)
def test_a_shortcut_is_found(tmp_path: Path, module: str, source: str) -> None:
    plant(tmp_path, "hub/wire/codec.py")
    plant(tmp_path, "hub/sockets/outbox.py")
    plant(tmp_path, module, source)

    assert len(list(shortcuts(tmp_path))) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("hub/domain/plan.py", "from hub.domain import model"),
        ("hub/api/admin.py", "from hub import __version__"),
        ("hub/api/admin.py", "from hub.domain.model import Session"),
        ("hub/loops/sweeper.py", "from hub.sockets.registry import Registry"),
        ("hub/loops/sweeper.py", "from hub.sockets import registry"),
        ("hub/app.py", "from persistence.redis import keys"),
        ("hub/cli/dev.py", "from hub.app import build"),
        ("persistence/redis/keys.py", "from hub.domain.ids import shard_of_user"),
    ],
)
def test_what_the_table_names_is_allowed(tmp_path: Path, module: str, source: str) -> None:
    plant(tmp_path, "hub/sockets/registry.py")
    plant(tmp_path, module, source)

    assert list(shortcuts(tmp_path)) == []


def plant(root: Path, module: str, source: str = "") -> None:
    path = root / module
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)


def shortcuts(root: Path) -> Iterator[str]:
    paths = [path for package in PACKAGES for path in sorted((root / package).rglob("*.py"))]
    modules = {dotted(path.relative_to(root)): path for path in paths}
    for module, path in modules.items():
        place = place_of(module)
        if place is None and module not in PACKAGES:
            yield f"{module} belongs to no place in the table"
        reach = reach_of(place) if place else set()
        for target in imports(path, module, modules.keys()):
            if target != "hub" and not any(within(target, allowed) for allowed in reach):
                yield f"{module} imports {target}"


def dotted(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def within(module: str, place: str) -> bool:
    return module == place or module.startswith(f"{place}.")


def place_of(module: str) -> str | None:
    return next((place for place in MAY_IMPORT if within(module, place)), None)


def reach_of(place: str) -> set[str]:
    return {place}.union(*({row, *(reach_of(row) if row in MAY_IMPORT else ())} for row in MAY_IMPORT[place]))


def imports(path: Path, module: str, known: Set[str]) -> Iterator[str]:
    """The modules of ours that this one imports, wherever in it the import stands."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{source}.{alias.name}" for alias in node.names]
            targets = [name if is_module(name, known) else source for name in names]
        else:
            continue
        yield from (target for target in targets if target.split(".")[0] in (*PACKAGES, "tests"))


def is_module(name: str, known: Set[str]) -> bool:
    return name in MAY_IMPORT or any(within(module, name) for module in known)
