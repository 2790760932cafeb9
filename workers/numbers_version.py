"""Version of what a training means. It is part of every result's key.

Raise `VERSION` whenever the same config, data and seed would give other numbers; `DIGEST` is there to make sure that
nobody forgets: a test compares it with the code of the modules that decide the numbers, comments and docstrings aside.
"""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path

VERSION = 3
DIGEST = "b15b41a7000c3933"

MODULES = (
    "augment/*.py",
    "config/*.py",
    "models/*.py",
    "objectives/*.py",
    "averaging.py",
    "batch_norm.py",
    "data.py",
    "device.py",
    "evaluation.py",
    "events.py",
    "inputs.py",
    "optimisation.py",
    "sampling.py",
    "test_side.py",
    "training.py",
)


def code_digest() -> str:
    """16 hex digits over the code of the modules that decide a training's numbers."""
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(path for pattern in MODULES for path in root.glob(pattern)):
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(ast.unparse(_bare(ast.parse(path.read_text()))).encode())
    return digest.hexdigest()[:16]


def _bare(tree: ast.Module) -> ast.Module:
    """The tree without docstrings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
    return tree
