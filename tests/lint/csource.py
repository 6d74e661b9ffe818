"""Reads C sources: what they include, which functions they define, and who calls whom.

A scanner in place of a compiler: it sees the code of all programs (lib, daemons, BPF) at once, also
macros, and needs no build.  It relies on what gcc has accepted.  A macro without arguments that
calls a function is the one thing that it does not follow."""
import bisect
import functools
import os
import re

SEARCH = ["lib", "", "daemon"]  # where quoted includes are looked for, as the Makefile's -I
TOPS = ["lib", "bpf", "daemon"]

APART = re.compile(r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""", re.S)
DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.M)
DEFINE = re.compile(r"[ \t]*#\s*define\s+(\w+)(\([^)]*\))?(.*)", re.S)
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+"([^"\n]+)"', re.M)
CALL = re.compile(r"(->|\.)?\s*\b([A-Za-z_]\w*)\s*\(")
CLEANUP = re.compile(r"\b(?:AUTO|cleanup)\((\w+)\)")
VALUE = re.compile(r"(?:(?<!\bAUTO)(?<!\bcleanup)\(|[=,{?:&]|\breturn\b)\s*"
                   r"([A-Za-z_]\w*)\b(?!\s*\()")
POINTER = re.compile(r"\(\s*\*\s*(\w+)\s*\)\s*\(")


class SourceError(Exception):
    pass


def spaces(text):
    return re.sub(r"[^\n]", " ", text)


class Function:
    """A definition: of a function, or of a macro that looks like one (it has no head)."""

    def __init__(self, file, name, line, static, body, body_at, head=""):
        self.file, self.name, self.line, self.static = file, name, line, static
        self.body, self.body_at, self.head = body, body_at, head

    def __repr__(self):
        return f"{self.file.path}:{self.line} {self.name}"

    @functools.cached_property
    def mentions(self):
        """The names that it calls: [(name, offset in the file)]."""
        pointers = set(POINTER.findall(self.head + self.body))
        found = [(m[2], m.start(2)) for m in CALL.finditer(self.body)
                 if not m[1] and m[2] not in pointers]
        found += [(m[1], m.start(1)) for m in CLEANUP.finditer(self.body)]
        return [(name, self.body_at + at) for name, at in found]


class File:
    """One source: its code, comments, includes and functions."""

    def __init__(self, path, text):
        self.path, self.text = path, text
        self.starts = [0] + [m.end() for m in re.finditer("\n", self.text)]
        self.comments = [(m.start(), m[0]) for m in APART.finditer(self.text)
                         if m[0].startswith("/")]
        # The code alone: comments and what is in quotes are spaces, offsets stay the same.
        self.code = APART.sub(
            lambda m: spaces(m[0]) if m[0][0] == "/" else m[0][0] + spaces(m[0][1:-1]) + m[0][0],
            self.text)
        self.included = [(m[1], self.line(m.start(1))) for m in INCLUDE.finditer(self.text)
                         if self.code[m.end() - 1] == '"']
        self.macro_parameters = set()
        self.functions = self.macros() + self.definitions()

    def line(self, offset):
        return bisect.bisect_right(self.starts, offset)

    @property
    def unit(self):
        """The file without its suffix: x.c and x.h are one."""
        return re.sub(r"(\.bpf)?\.[ch]$", "", self.path)

    def macros(self):
        found = []
        for m in DIRECTIVE.finditer(self.code):
            d = DEFINE.match(m[0])
            if d and d[2]:
                self.macro_parameters.update(re.findall(r"\w+", d[2]))
                found.append(Function(self, d[1], self.line(m.start()), self.path.endswith(".c"),
                                      d[3], m.start() + d.start(3)))
        return found

    def definitions(self):
        """Braces at the outermost level that follow a parenthesis."""
        code = DIRECTIVE.sub(lambda m: spaces(m[0]), self.code)
        found, depth, begin, body = [], 0, 0, None
        for m in re.finditer(r"[{};]", code):
            if m[0] == "{":
                if depth == 0 and code[begin:m.start()].rstrip().endswith(")"):
                    body = m.start()
                depth += 1
                continue
            if m[0] == "}":
                depth -= 1
                if depth < 0:
                    raise SourceError(f"{self.path}:{self.line(m.start())}: a brace too many")
            if depth == 0:
                if m[0] == "}" and body is not None:
                    f = self.function(code, begin, body, m.end())
                    found += [f] if f else []
                    body = None
                if m[0] == ";" or found and found[-1].body_at + len(found[-1].body) == m.end():
                    begin = m.end()
        if depth:
            raise SourceError(f"{self.path}: a brace is not closed")
        return found

    def function(self, code, begin, body, end):
        """The function of this head and body, or None: something else that has braces."""
        head = code[begin:body]
        names, depth = [], 0
        for m in re.finditer(r"(\w+)\s*\(|[()]", head):
            if m[0] == ")":
                depth -= 1
                continue
            if depth == 0 and m[1]:
                names.append((m[1], begin + m.start(1)))
            depth += 1
        if not names or names[-1][0] == "__attribute__":
            return None
        name, at = names[-1]
        return Function(self, name, self.line(at), "static" in code[begin:at].split(),
                        code[body:end], body, head)


@functools.lru_cache(maxsize=None)
def read(path, text):
    return File(path, text)


class Tree:
    """All sources below a root."""

    def __init__(self, root):
        self.root = root
        paths = sorted(os.path.relpath(os.path.join(d, f), root) for top in TOPS
                       for d, _, files in os.walk(os.path.join(root, top)) for f in files
                       if f.endswith((".c", ".h")))
        self.files = {}
        for path in paths:
            with open(os.path.join(root, path), encoding="utf-8", errors="replace") as f:
                self.files[path] = read(path, f.read())
        if not self.files:
            raise SourceError(f"{root} has no sources")
        self.functions = [f for file in self.files.values() for f in file.functions]
        self.by_name = {}
        for f in self.functions:
            self.by_name.setdefault(f.name, []).append(f)

    def includes(self, file):
        """The files of ours that a file includes: [(name, line, path or None)]."""
        found = []
        for name, line in file.included:
            places = [os.path.normpath(os.path.join(d, name))
                      for d in [*SEARCH, os.path.dirname(file.path)]]
            found.append((name, line, next((p for p in places if p in self.files), None)))
        return found

    def find(self, name, file):
        """The function that the name means in this file: its own, one of its folder, any."""
        found = [f for f in self.by_name.get(name, [])
                 if f.file is file or f.file.path.endswith(".h") or
                 not f.static and not f.file.path.endswith(".bpf.c")]
        near = [lambda f: f.file is file, lambda f: f.file.unit == file.unit,
                lambda f: os.path.dirname(f.file.path) == os.path.dirname(file.path)]
        for is_near in near:
            for f in found:
                if is_near(f):
                    return f
        return found[0] if found else None

    @functools.cached_property
    def calls(self):
        """Direct calls: {caller: {callee: line of the first call}}."""
        graph = {}
        for f in self.functions:
            to = graph.setdefault(f, {})
            for name, at in f.mentions:
                callee = self.find(name, f.file)
                if callee:
                    to.setdefault(callee, f.file.line(at))
        return graph

    @functools.cached_property
    def lent(self):
        """Functions whose address is taken, to be called through it: {function: "file:line"}."""
        found = {}
        for file in self.files.values():
            for m in VALUE.finditer(file.code):
                name = m[1]
                f = self.find(name, file) if name in self.by_name else None
                if f and f.head and f not in found and not is_variable(file, name):
                    found[f] = f"{file.path}:{file.line(m.start(1))}"
        return found


def is_variable(file, name):
    """Is there a variable, a parameter or a member of this name in the file?"""
    if name in file.macro_parameters:
        return True
    plain = rf"(?:\b(?!return\b)\w+ +|[*,] *){name}\s*(?:=[^=]|;|\[)"
    parameter = rf"\b\w+ [* ]*{name}\s*[,)]"
    return re.search(f"{plain}|{parameter}", file.code)


def core(graph):
    """The graph without nodes that can be on no cycle: they use no other, or no other uses them."""
    graph = {a: set(to) for a, to in graph.items()}
    while True:
        used = set().union(*graph.values())
        keep = {a for a in graph if a in used and graph[a]}
        if len(keep) == len(graph):
            return graph
        graph = {a: graph[a] & keep for a in keep}


def way_between(graph, start, goal, key):
    """The shortest way from start to goal, as a list of nodes; or None."""
    came, queue = {start: None}, [start]
    for node in queue:
        if node == goal:
            way = []
            while node is not None:
                way.insert(0, node)
                node = came[node]
            return way
        for to in sorted(graph[node], key=key):
            if to not in came:
                came[to] = node
                queue.append(to)
    return None


def cycles(graph, key=str):
    """The shortest cycle through each edge that is on one: lists of nodes, each cycle once."""
    graph, found = core(graph), {}
    for a in sorted(graph, key=key):
        for b in sorted(graph[a], key=key):
            way = way_between(graph, b, a, key)
            if way:
                first = min(range(len(way)), key=lambda i: key(way[i]))
                way = way[first:] + way[:first]
                found.setdefault(tuple(way), way)
    return list(found.values())
