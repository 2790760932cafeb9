"""YAML files within limits: bombs, depth, dates and repeated keys are refused quickly, with the line."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from feature_store.errors import UserError
from feature_store.yaml_files import LARGEST, parse_yaml, read_yaml

BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(9)
)
WRONG = {
    "alias bomb": (BOMB, "line 5: more than 20,000 values"),
    "alias of itself": ("a: &a [*a]", "stands for nothing"),
    "unknown alias": ("a: *b", "stands for nothing"),
    "many values": ("a: [" + ",".join(["1"] * 30_000) + "]", "more than 20,000 values"),
    "deep lists": ("[" * 100_000, "nested more than 32"),
    "deep mappings": ("".join(" " * i + "a:\n" for i in range(300)), "nested more than 32"),
    "no date": ("a: 1\nb: 2020-13-45", "line 2: '2020-13-45' reads as a date"),
    "a date": ("a: 2020-01-02", "reads as a date"),
    "hexadecimal": ("a: 0x_", "'0x_' is no int"),
    "digits": ("a: " + "9" * 5_000, "a number of 5000 characters"),
    "a repeated key": ("a:\n  b: 1\n  b: 2", "line 3: the key 'b' appears twice"),
    "a number as key": ("1: 2", "the key '1' is no text"),
    "a list as key": ("? [a]\n: 1", "is no text"),
    "zero byte": ("a: \x00", "control characters"),
    "a tag of Python": ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
    "a set": ("!!set {a, b}", "!!set means nothing here"),
    "binary": ("a: !!binary zz=", "!!binary means nothing here"),
    "no bool": ("a: !!bool x", "'x' is no bool"),
    "two documents": ("a: 1\n---\nb: 2", "another document"),
    "a tab": ("a:\n\t- b", "line 2"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_refused_within_a_second_and_quotes_a_line_at_most(name: str) -> None:
    text, reason = WRONG[name]
    begun = time.perf_counter()
    with pytest.raises(UserError) as error:
        parse_yaml(text, where="space.yaml")
    assert time.perf_counter() - begun < 1.0
    assert reason in str(error.value) and len(str(error.value)) < 300


def test_a_bomb_takes_no_memory() -> None:
    code = f"""
import resource
from feature_store.yaml_files import parse_yaml
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    parse_yaml({BOMB!r}, where="bomb")
except Exception:
    pass
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert int(ended.stdout) < 100, "MB"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # the same unit, kB


def test_a_merge_key_may_be_overruled_and_a_power_of_ten_is_a_number() -> None:
    text = "x: &x {a: 1, b: 1e-4}\ny: {<<: *x, a: 2}"
    assert parse_yaml(text, where="here") == {"x": {"a": 1, "b": 1e-4}, "y": {"a": 2, "b": 1e-4}}


words = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Cn", "Co"]), max_size=20)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.slow
@given(plain)
def test_what_yaml_writes_is_read_back(content: Any) -> None:
    assert parse_yaml(yaml.safe_dump(content, allow_unicode=True), where="here") == content


def test_files_that_are_missing_large_or_not_text_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such file.*did you mean 'demo.yaml'"):
        read_yaml(tmp_path / "dem.yaml", known=["demo.yaml", "other.yaml"])
    path = tmp_path / "a.yaml"
    path.write_bytes(b"# " + b"x" * LARGEST)
    with pytest.raises(UserError, match="larger than 256 kB"):
        read_yaml(path)
    path.write_bytes("a: ä".encode("latin-1"))
    with pytest.raises(UserError, match="is not UTF-8"):
        read_yaml(path)
    path.write_bytes("\ufeffa: ä\r\n".encode())
    assert read_yaml(path) == {"a": "ä"}
    with pytest.raises(UserError, match="cannot be read"):
        read_yaml(tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        read_yaml("a\x00b.yaml")
