"""Packages, commands, flags and config fields in messages exist, and files that documents name."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest
from ml_collections import FrozenConfigDict

from configs import default

ROOT = Path(__file__).parents[1]
SOURCES = [
    ROOT / "launch.py",
    *sorted((ROOT / "emojax").rglob("*.py")),
    *sorted((ROOT / "tfds_builders").rglob("*.py")),
]
REQUIRED = "\n".join(path.read_text() for path in ROOT.glob("requirements*.txt"))


def text_of(node):
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) or "{}" for part in node.values)
    return None


def docstrings(tree):
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, kinds)]
    return {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}


@pytest.fixture(scope="module")
def messages():
    """(file, text) of every string that is not a docstring."""
    found = []
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        hidden = docstrings(tree)
        texts = (text_of(node) for node in ast.walk(tree) if id(node) not in hidden)
        found += [(path.relative_to(ROOT), text) for text in texts if text]
    return found


def matches(messages, pattern):
    return [(path, found) for path, text in messages for found in re.findall(pattern, text)]


def test_suggested_packages_are_requirements(messages):
    found = matches(messages, r"pip install ([^);`]+)")
    assert len({package for _, package in found}) >= 3
    for path, package in found:
        name = package.strip().removeprefix("--no-deps ").strip("'")
        if name.startswith("-r "):
            assert (ROOT / name.removeprefix("-r ").split("'")[0]).is_file(), f"{path}: pip install {package}"
            continue
        assert re.fullmatch(r"[\w.-]+(\[\w+\])?", name), f"{path}: pip install {package}"
        assert not name.startswith("emojax"), f"{path}: the package is on no index"
        assert re.search(rf"^{re.escape(name)}\b|^{re.escape(name)}[=<>]", REQUIRED, re.MULTILINE), f"{path}: {name}"


def test_messages_name_only_installed_files(messages):
    assert not matches([m for m in messages if m[0].parts[0] == "emojax"], r"requirements[\w-]*\.txt")


def test_suggested_modules_and_flags_exist(messages):
    modules = {module for _, module in matches(messages, r"python -m ([\w.]+)")}
    assert {"tfds_builders", "emojax"} <= modules
    assert all(importlib.util.find_spec(module) for module in modules)
    commands = re.findall(r'commands\.add_parser\(\s*"([\w-]+)"', (ROOT / "emojax" / "__main__.py").read_text())
    assert len(commands) == 6
    assert {name for _, name in matches(messages, r"python -m emojax ([\w-]+)")} <= set(commands)
    flags = (ROOT / "emojax" / "launcher" / "flags.py").read_text()
    defined = set(re.findall(r"DEFINE_\w+\(\s*\"(\w+)\"", flags)) | {"config", "help"}
    for path, command in matches(messages, r"python launch\.py([^;`\n]*)"):
        assert set(re.findall(r"--(\w+)", command)) <= defined, path


def test_suggested_config_fields_exist(messages):
    config = FrozenConfigDict(default.get_config())
    fields = matches(messages, r"--config\.([a-z][\w.{}]*)=")
    assert len(fields) >= 3
    for path, field in fields:
        if path.name == "flags.py":  # fields of other configs
            continue
        value = config
        for part in field.replace("{}", "acoustic").split("."):
            value = value[part]


@pytest.mark.parametrize("document", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.stem)
def test_modules_named_in_documents_exist(document):
    folders = (ROOT, ROOT / "emojax", ROOT / "emojax/encoders")
    for name in re.findall(r"`([\w./]+\.py)`", document.read_text()):
        assert "NAME" in name or any((folder / name).is_file() for folder in folders), name
