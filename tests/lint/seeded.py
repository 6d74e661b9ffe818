#!/usr/bin/python3
"""Checks the rules: a violation is put into a copy of the sources, and its rule reports that one at
its line, and no other.  What the sources themselves have is set aside."""
import os
import re
import shutil
import subprocess
import tempfile

import check
import rules
from check import tap

LAYERS = """```
layers:            # folders, bottom up
lib/base
lib/wire
bpf
lib/source | lib/flow
lib/format
daemon/common
daemon/opener
daemon/synfind
layers: lib/flow   # its files
seed_low seed_next
seed_left | seed_right
seed_high
```
"""
FUNCTION = "void {0}(void)\n{{\n\t{1}();\n}}\n"  # the call is in its third line
SEEDS = {
    "lib/flow/seed_low.c": FUNCTION.format("seed_low", "abort"),
    "lib/flow/seed_next.c": FUNCTION.format("seed_next", "seed_low"),
    "lib/flow/seed_left.c": FUNCTION.format("seed_left", "seed_next"),
    "lib/flow/seed_right.c": FUNCTION.format("seed_right", "seed_low"),
    "lib/flow/seed_high.c": FUNCTION.format("seed_high", "seed_left"),
    "lib/flow/seed_high.h": "/* Calls seed_left(). */\nvoid seed_high(void);\n",
    "daemon/synfind/seed_one.c": FUNCTION.format("seed_one", "abort"),
    "daemon/synfind/seed_two.c": FUNCTION.format("seed_two", "seed_one"),
    "docs/architecture.md": LAYERS,
}


class Seeds:
    def __init__(self, root):
        self.root = root
        self.before = {}

    def write(self, path, text):
        full = os.path.join(self.root, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="utf-8") as f:
            f.write(text)

    def run(self, rule):
        rules.tree_of.cache_clear()
        return rule(self.root)

    def found(self, rule, what, added, *want, replace=None, prepare=None):
        """With @added ({path: text at its end}) or @replace ({path: (old, new)}) the rule reports
        each of @want: (path, line, piece of the message); a line counts from what was added."""
        try:
            if rule not in self.before:
                self.before[rule] = self.run(rule)
        except rules.CannotCheck as e:
            tap.skip(what, str(e))
            return
        saved, lines = {}, {}
        for path in [*added, *(replace or {})]:
            full = os.path.join(self.root, path)
            saved[path] = rules.text_of(self.root, path) if os.path.exists(full) else None
            lines[path] = (saved[path] or "").count("\n") if path in added else 0
        for path, text in added.items():
            self.write(path, (saved[path] or "") + text)
        for path, (old, new) in (replace or {}).items():
            self.write(path, saved[path].replace(old, new))
        if prepare:
            prepare()
        got = self.run(rule)
        for path, text in saved.items():
            if text is None:
                os.remove(os.path.join(self.root, path))
            else:
                self.write(path, text)
        new = [g for g in got if g not in self.before[rule]]
        good = len(new) == len(want)
        for path, line, piece in want:
            where = f"{path}:{lines.get(path, 0) + line}: "
            good = good and any(n.startswith(where) and piece in n for n in new)
        tap.ok(good, what, "wanted", [str(w) for w in want], "got", new)


def compile_seed(root, path):
    obj = os.path.join(root, "build/obj", re.sub(r"\.c$", ".o", path))
    os.makedirs(os.path.dirname(obj), exist_ok=True)
    subprocess.run(["cc", "-c", "-o", obj, os.path.join(root, path)], check=True)


def layers(s):
    written, calls, includes = rules.layers_written, rules.calls_downward, rules.includes_downward
    doc = "docs/architecture.md"
    s.found(written, "found: no block of layers", {}, (doc, 1, "no block"),
            replace={doc: (LAYERS, "")})
    s.found(written, "found: a name that is listed twice", {}, (doc, 13, "already in line 12"),
            replace={doc: ("seed_left |", "seed_left seed_low |")})
    s.found(written, "found: a | without a name beside it", {}, (doc, 13, "one side of a |"),
            replace={doc: ("| seed_right", "|")})
    s.found(written, "found: a name with a suffix", {}, (doc, 14, "no name of a"),
            replace={doc: ("seed_high", "seed_high.c")})
    s.found(written, "found: a block that is not closed", {}, (doc, 1, "not closed"),
            replace={doc: ("seed_high\n```", "seed_high")})
    s.found(written, "found: a file that no layer has", {"lib/flow/seed_new.c": "int seed_new;\n"},
            ("lib/flow/seed_new.c", 1, "add it to the block"))
    s.found(written, "found: a folder that no layer has", {"lib/seed/seed.c": "int seed_new;\n"},
            ("lib/seed/", 1, "add it to the block"))
    s.found(written, "found: a layer that has no file", {}, (doc, 12, "no file in lib/flow"),
            replace={doc: ("seed_next", "seed_next seed_gone")})
    s.found(includes, "found: an include of a higher file",
            {"lib/flow/seed_low.c": '#include "flow/seed_high.h"\n'},
            ("lib/flow/seed_low.c", 1, "seed_high is above seed_low"))
    s.found(includes, "found: an include of a peer",
            {"lib/flow/seed_left.c": '#include "flow/seed_right.h"\n',
             "lib/flow/seed_right.h": "/* nothing */\n"},
            ("lib/flow/seed_left.c", 1, "are peers"))
    s.found(includes, "found: an include of a higher folder",
            {"lib/base/fmt.h": '#include "common/log.h"\n'},
            ("lib/base/fmt.h", 1, "daemon/common is above lib/base"))
    s.found(includes, "found: an include of nothing", {"lib/base/fmt.h": '#include "seed.h"\n'},
            ("lib/base/fmt.h", 1, "is not there"))
    s.found(calls, "found: a call of a higher file",
            {"lib/flow/seed_low.c": FUNCTION.format("seed_up", "seed_high")},
            ("lib/flow/seed_low.c", 3, "seed_high is above seed_low"))
    s.found(calls, "found: a call of a later file of the same layer",
            {"lib/flow/seed_low.c": FUNCTION.format("seed_up", "seed_next")},
            ("lib/flow/seed_low.c", 3, "seed_next is above seed_low"))
    s.found(calls, "found: a call of a peer",
            {"lib/flow/seed_left.c": FUNCTION.format("seed_over", "seed_right")},
            ("lib/flow/seed_left.c", 3, "are peers"))
    s.found(calls, "found: a call of a higher folder, by a macro",
            {"lib/base/fmt.h": "#define SEED(x) \\\n\tseed_one(x)\n"},
            ("lib/base/fmt.h", 2, "daemon/synfind is above lib/base"))


def graphs(s):
    s.found(rules.include_cycles, "found: a header that includes itself, around another",
            {"lib/base/seed_a.h": '#include "base/seed_b.h"\n',
             "lib/base/seed_b.h": '\n#include "base/seed_a.h"\n'},
            ("lib/base/seed_a.h", 1, "seed_b.h > lib/base/seed_a.h"))
    deep = {f"lib/base/seed_{n}.h": f'\n#include "base/seed_{n + 1}.h"\n' for n in range(4)}
    s.found(rules.deep_headers, "found: a header that is 4 deep",
            {**deep, "lib/base/seed_4.h": "\n"}, ("lib/base/seed_0.h", 2, "4 deep"))
    s.found(rules.recursion, "found: a function that calls itself",
            {"lib/base/fmt.c": FUNCTION.format("seed", "seed")},
            ("lib/base/fmt.c", 3, "seed > seed"))
    s.found(rules.recursion, "found: a cycle of a static function, a clean-up and a macro",
            {"daemon/common/log.c": "static void seed_a(void)\n{\n\tint x AUTO(seed_b);\n}\n"
                                    "#define SEED(x) seed_a(x)\n"
                                    "void seed_b(int *x)\n{\n\tSEED();\n}\n"},
            ("daemon/common/log.c", 3, "seed_a > seed_b > SEED > seed_a"))
    s.found(rules.recursion, "passed: a call through a pointer, or of a static function elsewhere",
            {"lib/base/fmt.c": "static void seed_a(struct seed *s, void (*seed_b)(void))\n{\n"
                               "\tseed_b();\n\ts->seed_c();\n\tseed_d();\n}\n"
                               "void seed_b(void)\n{\n\tseed_a();\n}\n"
                               "void seed_c(void)\n{\n\tseed_a(); /* seed_c() */\n}\n",
             "lib/base/strbuf.c": "static void seed_d(void)\n{\n\tseed_c();\n}\n"})
    s.found(rules.file_cycles, "found: files of lib/flow that call each other",
            {"lib/flow/seed_low.c": FUNCTION.format("seed_up", "seed_next")},
            ("lib/flow/seed_low.c", 3, "seed_low > seed_next > seed_low"))
    s.found(rules.file_cycles, "found: files of daemon/synfind that call each other",
            {"daemon/synfind/seed_one.c": FUNCTION.format("seed_up", "seed_two")},
            ("daemon/synfind/seed_one.c", 3, "seed_one > seed_two > seed_one"))
    s.found(rules.callbacks, "found: a callback that is not written down",
            {"lib/base/fmt.c": "void *seed = fmt_u64;\n"}, ("lib/base/fmt.c", 1, "fmt_u64()"))
    lines = ("struct_gone.next -> fmt_u64: why\nevent_sink.gone -> fmt_u64: why\n"
             "event_sink.commit -> seed_gone: why\nseed_gone -> fmt_u64: why\nfmt_u64 fmt_u64\n")
    pieces = ["struct struct_gone has no", "has no pointer to a function gone",
              "no function seed_gone", "called nowhere", "must be"]
    s.found(rules.callbacks, "found: callbacks that are not, and a line that makes no sense",
            {rules.CALLBACKS: lines},
            *((rules.CALLBACKS, n, piece) for n, piece in enumerate(pieces, 1)))
    s.found(rules.kept_memory, "found: undo_save() in lib/flow",
            {"lib/flow/seed_low.c": "void seed_edit(void)\n{\n\tundo_edit();\n\tundo_save();\n}\n"},
            ("lib/flow/seed_low.c", 4, "seed_edit() calls undo_save()"))


def formatting(s):
    """On a folder alone: this takes long."""
    s.found(rules.unformatted, "found: what clang-format would change",
            {"lib/base/seed.c": "int a;\nint  b;\n"}, ("lib/base/seed.c", 2, "clang-formatted"))


def style(s):
    s.found(rules.long_lines, "found: a line of 101 columns, with tabs; 100 pass",
            {"daemon/common/log.c": "/*" + "ä" * 98 + "\n\t" + "x" * 91 + "*/\n"},
            ("daemon/common/log.c", 2, "101 columns"))
    s.found(rules.mutable_variables, "found: a mutable variable at file scope",
            {"lib/base/seed.c": "const int seed_fixed = 1;\n\nint *seed_table[3];\n"},
            ("lib/base/seed.c", 3, "seed_table is in .bss"),
            prepare=lambda: compile_seed(s.root, "lib/base/seed.c"))
    for path in ("lib/base/fmt.h", "bpf/bypass.h", "daemon/common/log.h"):
        s.found(rules.undocumented, f"found: a prototype without a comment in {path}",
                {path: "\n/* This one has one. */\nint seed_a(void);\n\nint seed_b(int x);\n"},
                (path, 5, "int seed_b(int x);"))
    s.found(rules.leftovers, "found: what is left to do",
            {"lib/base/fmt.c": "/* TO" "DO: more */\n"}, ("lib/base/fmt.c", 1, "more"))
    s.found(rules.old_words, "found: old nouns: a part, a prefix, a tag, in comments",
            {"lib/base/fmt.c": "int seed_guard, guards;\nint put_seed, output_seed;\n"
                               'struct text;\nconst char *text = "guard";\n/* it is untold */\n'},
            ("lib/base/fmt.c", 1, "seed_guard: say segment_check"),
            ("lib/base/fmt.c", 2, "put_seed: say fmt"),
            ("lib/base/fmt.c", 3, "struct text: say strbuf"),
            ("lib/base/fmt.c", 5, "untold: say suppressed"))
    s.found(rules.old_words, "found: an old noun in the name of a file",
            {"daemon/synfind/health.c": "\n"}, ("daemon/synfind/health.c", 1, "say watchdog"))
    s.found(rules.old_words, "found: a noun that is old in one folder only",
            {"lib/flow/seed_low.c": "int held;\n", "daemon/synfind/seed_one.c": "int held;\n"},
            ("lib/flow/seed_low.c", 1, "held: say deferred"))
    s.found(rules.old_words, "found: a line of the vocabulary that makes no sense",
            {rules.VOCABULARY: "parts * a b\n"}, (rules.VOCABULARY, 1, "must be"))


def copy_of(folders):
    root = tempfile.mkdtemp(dir=work)
    for name in folders:
        shutil.copytree(os.path.join(check.ROOT, name), os.path.join(root, name))
    shutil.copy(os.path.join(check.ROOT, ".clang-format"), root)
    return Seeds(root)


with tempfile.TemporaryDirectory(prefix="synfind-lint-") as work:
    formatting(copy_of(["lib/base"]))
    seeds = copy_of(["lib", "bpf", "daemon", "tests/lint"])
    for path, text in SEEDS.items():
        seeds.write(path, text)
    layers(seeds)
    graphs(seeds)
    style(seeds)
tap.done()
