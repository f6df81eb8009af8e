"""What the style tests look at: the tracked source files, each read and parsed once."""

from __future__ import annotations

import ast
import functools
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "concoord_ray"

_BUILT = {".venv", ".git", "build", "dist", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"}


@dataclass(frozen=True, slots=True)
class Module:
    """One Python file. ``path`` is relative to the root of the repository."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def dotted(self) -> str:
        """The name that it is imported by."""
        parts = self.path.with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def where(self, node: ast.AST) -> str:
        """A place in this file, as editors understand it."""
        return f"{self.path}:{getattr(node, 'lineno', 1)}"


@functools.cache
def files() -> tuple[Path, ...]:
    """Every file that is tracked or about to be, relative to the root; without git, every file that was not built."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, text=True, check=True, timeout=30,
        ).stdout  # fmt: skip
        paths = [Path(name) for name in listed.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        paths = [path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file()]
    return tuple(sorted(p for p in paths if (ROOT / p).is_file() and not _BUILT.intersection(p.parts)))


@functools.cache
def modules(top: str) -> tuple[Module, ...]:
    """The Python files below ``top`` ("concoord_ray" or "tests")."""
    found = []
    for path in files():
        if path.suffix == ".py" and path.parts[0] == top:
            text = (ROOT / path).read_text(encoding="utf-8")
            found.append(Module(path, text, ast.parse(text, filename=str(path))))
    return tuple(found)
