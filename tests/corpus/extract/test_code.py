"""Source code: the file as it is, with its definitions as headings."""

from __future__ import annotations

import random
import sys

import pytest

from ragx.corpus.extract import code
from tests.corpus.extract.conftest import headings

pytest.importorskip("tree_sitter")

SOURCES = {
    "a.py": (
        'import x\n\n\n@deco\nclass A(B):\n    """ä"""\n\n    def f(self): ...\n\n\nasync def g():\n    pass\n',
        [(1, "A"), (2, "f"), (1, "g")],
    ),
    "a.ts": (
        "export default class Foo {\n  bar(): number { return 1 }\n}\nexport const f = (x: number) => x;\n"
        "interface I { a: string }\nenum E { A }\n",
        [(1, "Foo"), (2, "bar"), (1, "f"), (1, "I"), (1, "E")],
    ),
    "a.tsx": ("function App() {\n  return <p>Snow</p>;\n}\n", [(1, "App")]),
    "a.js": ("class A {\n  m() {}\n}\nconst g = function () {};\nconst x = 3;\n", [(1, "A"), (2, "m"), (1, "g")]),
    "a.go": (
        "package main\n\ntype Server struct{ a int }\n\nfunc (s *Server) Run(x int) error {\n\treturn nil\n}\n",
        [(1, "Server"), (1, "Run")],
    ),
    "a.java": (
        "package a;\npublic class A {\n  record R(int x) {}\n  public void run(int x) {}\n}\n",
        [(1, "A"), (2, "R"), (2, "run")],
    ),
    "a.c": (
        "struct point { int x; };\nstruct point p;\nstatic int *add(int a)\n{\n  return 0;\n}\nint declared(int);\n",
        [(1, "point"), (1, "add")],
    ),
    "a.cpp": (
        "namespace n {\ntemplate <class T>\nclass Foo : Bar {\n  int get() const { return 1; }\n};\n"
        "int Foo::x() { return y; }\n}\n",
        [(1, "n"), (2, "Foo"), (3, "get"), (2, "Foo::x")],
    ),
    "a.rs": (
        "pub struct S;\nimpl S {\n    pub fn new() -> S { S }\n}\ntrait T {}\nmod m {\n    fn b() {}\n}\n",
        [(1, "S"), (1, "S"), (2, "new"), (1, "T"), (1, "m"), (2, "b")],
    ),
    "a.rb": ("module M\n  class A < B\n    def self.run(x)\n    end\n  end\nend\n", [(1, "M"), (2, "A"), (3, "run")]),
    "a.sh": ("#!/bin/sh\nfoo() {\n  echo hi\n}\n", [(1, "foo")]),
    "a.cs": ("namespace N {\n  class A {\n    int F(int x) { return x; }\n  }\n}\n", [(1, "N"), (2, "A"), (3, "F")]),
    "a.php": ("<?php\nclass A {\n  public function f($x) {}\n}\nfunction g() {}\n", [(1, "A"), (2, "f"), (1, "g")]),
    "a.lua": ("function f() end\n", []),
}


@pytest.mark.parametrize("name", SOURCES)
def test_definitions_are_headings(parse, name):
    source, definitions = SOURCES[name]
    document, reasons = parse(name, source)
    assert document.text == source.strip()
    assert document.title == name
    assert headings(document) == definitions
    assert reasons == []


def test_a_decorated_class_begins_with_its_decorator(parse):
    document, _ = parse("a.py", SOURCES["a.py"][0])
    assert document.text[document.headings[0].start :].startswith("@deco\nclass A")


def test_without_the_grammars_the_text_is_whole(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tree_sitter", None)
    (tmp_path / "a.py").write_text(SOURCES["a.py"][0])
    parsed = code.parse(tmp_path / "a.py")
    assert (parsed.text, parsed.headings) == (SOURCES["a.py"][0].strip(), [])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.py", "a.cpp", "a.ts", "a.rb", "a.rs", "a.php"])
@pytest.mark.parametrize(
    "content",
    [
        b"(" * 500_000,
        b"{" * 500_000,
        b"class A:\n" * 50_000,
        b"a<" * 200_000,
        "".join(chr(random.Random(0).randrange(32, 1000)) for _ in range(1)).encode() * 300_000,
    ],
)
def test_hostile_source_is_read(parse, name, content):
    document, reasons = parse(name, content)
    assert document is not None
    assert reasons == []
