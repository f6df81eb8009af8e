"""What is installed is what is in the tree: every module, the type marker, the command and the licence."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.style.source import ROOT, files

PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree, built without the network by the build backend of the `dev` extra."""
    folder = tmp_path_factory.mktemp("wheel")
    build = ["wheel", "--no-deps", "--no-build-isolation", "--no-cache-dir", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run([*PIP, *build], check=True, timeout=100, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_has_the_files_of_the_package(wheel: Path) -> None:
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert "concoord_ray/py.typed" in shipped
    assert shipped == {str(path) for path in files() if path.parts[0] == "concoord_ray"}


def test_the_wheel_has_the_command_and_the_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        information = {Path(name).name: name for name in archive.namelist() if ".dist-info/" in name}
        assert "concoord = concoord_ray.cli:main" in archive.read(information["entry_points.txt"]).decode()
        assert archive.read(information["LICENSE"]) == (ROOT / "LICENSE").read_bytes()
        metadata = archive.read(information["METADATA"]).decode()
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Python: >=3.10" in metadata


def test_the_installed_package_can_be_imported_elsewhere(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    subprocess.run([*PIP, "install", "--no-deps", "--target", str(site), str(wheel)], check=True, timeout=100)
    script = f"import sys; sys.path.insert(0, {str(site)!r}); import concoord_ray; print(concoord_ray.__file__)"
    found = subprocess.run(
        [sys.executable, "-I", "-c", script],
        cwd=tmp_path, check=True, timeout=60, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert Path(found.strip()) == site / "concoord_ray" / "__init__.py"
