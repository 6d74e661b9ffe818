"""The rules of the house.  Each rule takes the root folder of a tree and returns its findings, one
line of text each that begins with file and line; no findings: the rule is kept.

The programs beside this file print them as TAP; seeded.py proves that each rule finds what it
should.  A rule raises CannotCheck where something that it needs is missing."""
import functools
import os
import re
import shutil
import subprocess

from csource import Tree, cycles, spaces

DOCUMENT = "docs/architecture.md"
CALLBACKS = "tests/lint/callbacks.txt"
VOCABULARY = "tests/lint/vocabulary.txt"
ACYCLIC = ["lib/flow", "daemon/synfind"]  # folders in which files call one way
COLUMNS = 100
DEPTH = 3
CLANG_FORMAT = 14  # Debian 12's: another version formats some lines in another way


class CannotCheck(Exception):
    pass


class LayersError(Exception):
    pass


@functools.lru_cache(maxsize=1)
def tree_of(root):
    return Tree(root)


def text_of(root, path):
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as f:
        return f.read()


def folder(path):
    return os.path.dirname(path)


def tracked(root):
    """The C files that are checked in; all there are where git is missing or does not know."""
    paths = []
    if shutil.which("git"):
        out = subprocess.run(["git", "-C", root, "ls-files", "-z", "--", "*.c", "*.h"],
                             capture_output=True, text=True).stdout
        paths = [p for p in out.split("\0") if p and os.path.exists(os.path.join(root, p))]
    if not paths:
        tops = ("lib", "bpf", "daemon", "tests")
        paths = [os.path.relpath(os.path.join(d, f), root) for top in tops
                 for d, _, files in os.walk(os.path.join(root, top)) for f in files
                 if f.endswith((".c", ".h"))]
    return sorted(p for p in paths if not p.startswith("tests/fuzz/corpus/"))


# ---- layers ----

class Layers:
    """What the document says: an order of folders, and of the files in some of them.

    See tests/README.md for the syntax."""

    def __init__(self, root):
        self.sections = {}  # folder ("" for the order of folders) -> {name: (layer, group, place)}
        self.lines = {}     # the same -> {name: line of the document}
        inside = section = None
        for number, line in enumerate(text_of(root, DOCUMENT).splitlines(), 1):
            where = f"{DOCUMENT}:{number}"
            words = line.split("#")[0].strip()
            if line.startswith("```"):
                inside = None if inside is not None else number
                section = None
            elif inside is not None and re.fullmatch(r"layers:( \S+)?", words):
                section = words[len("layers:"):].strip()
                if section in self.sections:
                    raise LayersError(f"{where}: a second block for {section or 'the folders'}")
                self.sections[section], self.lines[section] = {}, {}
            elif section is not None and words:
                self.add(section, words, number, where)
        if inside is not None and section is not None:
            raise LayersError(f"{DOCUMENT}:{inside}: the block of layers is not closed")
        if "" not in self.sections:
            raise LayersError(f"{DOCUMENT}:1: no block that begins with \"layers:\"")
        for name, names in self.sections.items():
            if not names:
                raise LayersError(f"{DOCUMENT}:1: \"layers: {name}\" lists nothing")

    def add(self, section, words, number, where):
        names, lines = self.sections[section], self.lines[section]
        layer = number
        for group, part in enumerate(words.split("|")):
            if not part.split():
                raise LayersError(f"{where}: nothing stands on one side of a |")
            for place, name in enumerate(part.split()):
                if not re.fullmatch(r"[\w/]+", name):
                    raise LayersError(f"{where}: \"{name}\" is no name of a folder or a file "
                                      "(without .c and .h)")
                if name in names:
                    raise LayersError(f"{where}: {name} is already in line {lines[name]}")
                names[name], lines[name] = (layer, group, place), number

    def forbids(self, section, user, used):
        """Why @user may not use @used, or None: both are names of the section."""
        (la, ga, pa), (lb, gb, pb) = self.sections[section][user], self.sections[section][used]
        if la == lb and ga != gb:
            return f"{user} and {used} are peers"
        return f"{used} is above {user}" if (lb, pb) > (la, pa) else None


def layers_written(root):
    """The document has the block, and it names what there is."""
    try:
        layers = Layers(root)
    except LayersError as e:
        return [str(e)]
    tree, bad = tree_of(root), []
    folders = {folder(path) for path in tree.files}
    for section, names in layers.sections.items():
        have = {f.unit.removeprefix(section + "/"): path for path, f in tree.files.items()
                if folder(path) == section} if section else dict.fromkeys(folders)
        for name, line in layers.lines[section].items():
            if name not in have:
                what = "folder" if not section else f"file in {section}"
                bad.append(f"{DOCUMENT}:{line}: there is no {what} with the name {name}")
        for name in sorted(have):
            if name not in names:
                where = have[name] or f"{name}/"
                bad.append(f"{where}:1: {DOCUMENT} does not say in which layer"
                           f"{' of ' + section if section else ''} {name} is: add it to the block")
    return bad


def uses_against_layers(root, uses):
    """Which of these uses [(place, user's file, used file, what)] go up, or to a peer?"""
    try:
        layers = Layers(root)
    except LayersError as e:
        raise CannotCheck(str(e)) from e
    tree, bad = tree_of(root), []
    for where, user, used, what in uses:
        section, a, b = "", folder(user), folder(used)
        if a == b:
            section = a
            a, b = (tree.files[p].unit.removeprefix(section + "/") for p in (user, used))
        names = layers.sections.get(section, {})
        why = a != b and a in names and b in names and layers.forbids(section, a, b)
        if why:
            bad.append(f"{where}: {what}: {why}")
    return bad


def includes_downward(root):
    tree = tree_of(root)
    bad = [f"{path}:{line}: \"{name}\" is not there" for path, f in tree.files.items()
           for name, line, target in tree.includes(f) if not target]
    return bad + uses_against_layers(
        root, [(f"{path}:{line}", path, target, f"includes {target}")
               for path, f in tree.files.items() for _, line, target in tree.includes(f)
               if target])


def calls_downward(root):
    return uses_against_layers(
        root, [(f"{f.file.path}:{line}", f.file.path, g.file.path,
                f"{f.name}() calls {g.name}() of {g.file.path}")
               for f, to in tree_of(root).calls.items() for g, line in to.items()])


def include_graph(root):
    tree = tree_of(root)
    return {path: list(dict.fromkeys(t for _, _, t in tree.includes(f) if t))
            for path, f in tree.files.items()}


def include_line(root, path, target):
    tree = tree_of(root)
    return next(line for _, line, t in tree.includes(tree.files[path]) if t == target)


def include_cycles(root):
    graph = include_graph(root)
    return [f"{way[0]}:{include_line(root, way[0], (way + way)[1])}: {' > '.join(way + way[:1])}"
            for way in cycles(graph)]


def deep_headers(root):
    """Headers from which a chain of quoted includes has more than DEPTH edges: a > b > c has two.

    Counted from the headers of lib/ and daemon/, through any header of ours; generated ones are
    included with <> and do not count."""
    graph, longest = include_graph(root), {}

    def chain(path, above=()):
        if path not in longest and path not in above:
            ways = [chain(t, (*above, path)) for t in graph.get(path, [])]
            longest[path] = [path] + max(ways, key=len, default=[])
        return longest.get(path, [])

    found = [chain(p) for p in graph if p.endswith(".h") and p.startswith(("lib/", "daemon/"))]
    return [f"{way[0]}:{include_line(root, way[0], way[1])}: {len(way) - 1} deep: {' > '.join(way)}"
            for way in found if len(way) - 1 > DEPTH]


# ---- calls ----

def recursion(root):
    graph = tree_of(root).calls
    return [f"{way[0].file.path}:{graph[way[0]][(way + way)[1]]}: "
            f"{' > '.join(f.name for f in way + way[:1])}"
            for way in cycles(graph, key=lambda f: (f.file.path, f.line))]


def file_cycles(root):
    """A file is a .c and its header.  Each step of a cycle is shown by one call."""
    graph = {}
    for f, to in tree_of(root).calls.items():
        for g, line in to.items():
            a, b = f.file.unit, g.file.unit
            if a != b and folder(a) in ACYCLIC and folder(a) == folder(b):
                graph.setdefault(a, {}).setdefault(
                    b, (f"{f.file.path}:{line}", f"{f.name}() calls {g.name}()"))
    bad = []
    for way in cycles(graph):
        steps = [graph[a][b] for a, b in zip(way, way[1:] + way[:1])]
        files = " > ".join(os.path.basename(u) for u in way + way[:1])
        bad.append(f"{steps[0][0]}: {files}: {steps[0][1]}" +
                   "".join(f"; {what} at {where}" for where, what in steps[1:]))
    return bad


def callbacks(root):
    """The list of calls through pointers names what there is, and all of it."""
    tree, bad, listed = tree_of(root), [], set()
    code = "\n".join(f.code for f in tree.files.values())
    called = {name for f in tree.functions for name, _ in f.mentions}
    functions = {f.name for f in tree.functions if f.head}
    for number, line in enumerate(text_of(root, CALLBACKS).splitlines(), 1):
        where = f"{CALLBACKS}:{number}"
        if not line.split("#")[0].strip():
            continue
        m = re.fullmatch(r"(\w+)(?:\.(\w+))?\s+->\s+(\w+(?:\s+\w+)*)\s*:\s*(\S.*)", line.strip())
        if not m:
            bad.append(f"{where}: must be: struct.member or function -> functions: why")
            continue
        who, member = m[1], m[2]
        body = re.search(rf"\bstruct\s+{who}\s*\{{(.*?)\n\}}", code, re.S) if member else None
        if member and not (body and re.search(rf"\(\s*\*\s*{member}\s*\)\s*\(", body[1])):
            bad.append(f"{where}: struct {who} has no pointer to a function {member}")
        if not member and who not in called:
            bad.append(f"{where}: {who}() is called nowhere")
        for name in m[3].split():
            listed.add(name)
            if name not in functions:
                bad.append(f"{where}: there is no function {name}")
    bad += [f"{at}: {f.name}() is called through a pointer and is not in {CALLBACKS}"
            for f, at in tree.lent.items() if f.name not in listed]
    return bad


def kept_memory(root):
    """Kept memory is const.  undo_edit() saves it and lends it; whoever calls undo_save() would write
    by another way."""
    return [f"{f.file.path}:{f.file.line(at)}: {f.name}() calls {name}()"
            for f in tree_of(root).functions if f.file.path.startswith("lib/flow/")
            for name, at in f.mentions if name == "undo_save"]


# ---- text ----

def unformatted(root):
    tool = shutil.which(f"clang-format-{CLANG_FORMAT}") or shutil.which("clang-format")
    if not tool:
        raise CannotCheck("clang-format is missing")
    version = subprocess.run([tool, "--version"], capture_output=True, text=True).stdout
    if f"version {CLANG_FORMAT}." not in version:
        raise CannotCheck(f"clang-format {CLANG_FORMAT} is wanted, here is {version.strip()}")
    out = subprocess.run([tool, "--dry-run", "-Werror", "--style=file", *tracked(root)], cwd=root,
                         capture_output=True, text=True)
    bad = re.findall(r"^(\S+?:\d+):\d+: error: (.*)", out.stderr, re.M)
    if out.returncode and not bad:
        return [f"{os.path.basename(tool)}: {out.stderr[:500]}"]
    return [f"{where}: {what}" for where, what in dict.fromkeys(bad)]


def long_lines(root):
    return [f"{path}:{number}: {len(line.expandtabs(8))} columns" for path in tracked(root)
            for number, line in enumerate(text_of(root, path).splitlines(), 1)
            if len(line.expandtabs(8)) > COLUMNS]


def mutable_variables(root):
    """Constants with addresses are in .data.rel.ro: read-only once relocated, so not meant."""
    bad, symbols = [], 0
    for path, file in tree_of(root).files.items():
        if not path.startswith("lib/") or not path.endswith(".c"):
            continue
        obj = f"build/obj/{path[:-2]}.o"
        if not os.path.exists(os.path.join(root, obj)):
            bad.append(f"{path}:1: {obj} is not there: run make")
            continue
        nm = ["nm", "--plugin=", "--format=sysv", obj]
        out = subprocess.check_output(nm, cwd=root, text=True)
        for line in out.splitlines():
            cells = [c.strip() for c in line.split("|")]
            if len(cells) != 7:
                continue
            symbols += 1
            if cells[2] in "bBdDCsS" and not cells[6].startswith(".data.rel.ro"):
                at = re.search(rf"\b{re.escape(cells[0].split('.')[0])}\b", file.code)
                bad.append(f"{path}:{file.line(at.start()) if at else 1}: "
                           f"{cells[0]} is in {cells[6]}")
    return bad if symbols or bad else ["lib/:1: no object has a symbol"]


PROTOTYPE = re.compile(
    r"^(?!typedef|struct \w+ \{|union|enum|#|\s|static inline|return|extern \"C\"|[/}*])"
    r"[A-Za-z_][^;{}=#]*\([^;{}]*\)[^;{}()]*;", re.M)


def undocumented(root):
    """A comment stands over each prototype, or over the block of lines that it belongs to."""
    bad = []
    for path, file in tree_of(root).files.items():
        if not path.endswith(".h"):
            continue
        for m in PROTOTYPE.finditer(file.text):
            before = file.text[:m.start()]
            if "*/" not in before.rsplit("\n\n", 1)[-1]:
                bad.append(f"{path}:{file.line(m.start())}: {m[0].splitlines()[0]}")
    return bad


def leftovers(root):
    words = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX)\b")
    paths = ["Makefile", "README.md"]
    for top in ("lib", "bpf", "daemon", "tests", "docs", "conf", "systemd"):
        paths += [os.path.relpath(os.path.join(d, f), root)
                  for d, _, files in os.walk(os.path.join(root, top)) for f in files]
    return [f"{path}:{number}: {line.strip()[:100]}" for path in paths
            if not ("/corpus/" in path or "__pycache__" in path or path.endswith(".pcap"))
            if os.path.exists(os.path.join(root, path))
            for number, line in enumerate(text_of(root, path).splitlines(), 1)
            if words.search(line)]


# ---- vocabulary ----

# How each form finds an old noun: in identifiers, or (comment, tag) in the text.
FORMS = {
    "part": r"(?i)(?:.*_)?{0}(?:_.*)?",
    "prefix": r"{0}\w+",
    "name": r"{0}",
    "tag": r"\b(?:struct|union|enum)\s+{0}\b",
    "comment": r"(?i)\b{0}\b",
    "file": r"{0}",
}


def read_vocabulary(root):
    """[(form, place, old, new)], the identifiers that stay, and lines that make no sense."""
    rules, stay, bad = [], set(), []
    for number, line in enumerate(text_of(root, VOCABULARY).splitlines(), 1):
        cells = line.split("#")[0].split(None, 3)
        if cells and cells[0] == "stays":
            stay.update(cells[1:2])
        elif len(cells) == 4 and cells[0] in FORMS:
            rules.append(cells)
        elif cells:
            bad.append(f"{VOCABULARY}:{number}: must be: form place old new, or: stays name why")
    return rules, stay, bad


def old_words(root):
    """Identifiers, names of files and comments that have a noun of before; each once in a file.

    What is in quotes is exempt: words of the event schema are there."""
    rules, stay, bad = read_vocabulary(root)
    rules = [(form, place, re.compile(FORMS[form].format(old)), new)
             for form, place, old, new in rules]

    @functools.lru_cache(maxsize=None)
    def matching(name):
        return [(place, new) for form, place, pattern, new in rules
                if form in ("part", "prefix", "name") and pattern.fullmatch(name)]

    for path, file in tree_of(root).files.items():
        code = re.sub(r'"[^"\n]*"|<[\w/.]+>', lambda m: spaces(m[0]), file.code)
        first = {}
        for m in re.finditer(r"[A-Za-z_]\w*", code):
            first.setdefault(m[0], m.start())
        stem = os.path.basename(file.unit)
        found = {}
        for name, at in first.items():
            for place, new in matching(name):
                if name not in stay and (place == "*" or path.startswith(place)):
                    found.setdefault((at, name), new)
        for form, place, pattern, new in rules:
            if place != "*" and not path.startswith(place):
                continue
            if form in ("part", "file") and pattern.fullmatch(stem):
                found.setdefault((0, f"{stem} (the file)"), new)
            elif form == "tag":
                m = pattern.search(code)
                if m:
                    found.setdefault((m.start(), m[0]), new)
            elif form == "comment":
                for at, text in file.comments:
                    for m in pattern.finditer(text):
                        found.setdefault((at + m.start(), m[0]), new)
        bad += [f"{path}:{file.line(at)}: {name}: say {new}"
                for (at, name), new in sorted(found.items())]
    return bad
