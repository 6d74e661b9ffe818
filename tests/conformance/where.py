#!/usr/bin/python3
"""Random expressions: the program and a second evaluator (support/where.py) give the same verdict,
by the record and by the line, and refuse the same ones.  SEED=N replays, N=... tries more."""
import glob
import json
import os
import random
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests/support"))
import script
import tap
import where

EVAL = os.path.join(ROOT, "build/tests/where_eval")
SEED = int(os.environ.get("SEED", 14))
EXPRESSIONS = int(os.environ.get("N", 10000))
RANDOM_RECORDS, JUDGED = 2000, 24
rng = random.Random(SEED)


# ---- random expressions ----

def quoted(text):
    quote = rng.choice("'\"")
    out = ""
    for c in text:
        special = {"\\": "\\\\", quote: "\\" + quote, "\n": "\\n", "\r": "\\r", "\t": "\\t"}
        out += special.get(c, c)
    return quote + out + quote


def some_member(line, *types):
    """One that the line has, or any."""
    def has(path):
        return where.value_of(line, path) is not None
    paths = [p for p in where.members() if not types or where.type_of(p) in types]
    present = [p for p in paths if has(p)]
    return rng.choice(present if present and rng.random() < 0.8 else paths)


def some_value(line, path):
    """A literal for a member: what the line has, something like it, or anything."""
    kind, value = where.type_of(path), where.value_of(line, path)
    if kind == "integer":
        n = value if value is not None else rng.choice([0, 1, 443, 2**40])
        n += rng.choice([0, 0, 0, 1, -1, rng.randrange(-9, 9)])
        n = max(-2**63, min(n, 2**63 - 1))
        return f"{'-' if n < 0 else ''}{abs(n):#x}" if rng.random() < 0.1 else str(n)
    if kind == "bool":
        return rng.choice(["true", "false"])
    if kind == "time":
        value = value or "2023-11-14T22:13:20.123456789Z"
        return quoted(value[:rng.choice([30, 30, 10, 13, 19, 23])])
    if kind == "address":
        other = rng.choice(["::1", "10.0.0.1", "::ffff:10.0.0.0", "2001:db8::c"])
        return quoted(value if value and rng.random() < 0.7 else other)
    words = where.members()[path].words
    if words:
        return quoted(value if value and rng.random() < 0.6 else rng.choice(sorted(words)))
    return quoted(rng.choice([value or "", (value or "x") + "x", "eth0", "z\u00fcrich", ""]))


def some_network(line, path):
    address = where.value_of(line, path) or rng.choice(["10.0.0.0", "::"])
    return f"{address}/{rng.choice([0, 1, 8, 9, 16, 24, 31, 32] + [64, 127, 128] * (':' in address))}"


def some_part(value):
    i = rng.randrange(len(value) + 1)
    return value[i:i + rng.randrange(6)] if rng.random() < 0.5 else value[:i]


def term(line):
    shape = rng.randrange(10)
    if shape < 5:
        path = some_member(line, "integer", "integer", "bool", "string", "time", "address")
        ops = ["==", "!="] if where.type_of(path) in ("bool", "address") else list(where.COMPARE)
        value, op = some_value(line, path), rng.choice(ops)
        return f"{value} {op} {path}" if rng.random() < 0.2 else f"{path} {op} {value}"
    if shape == 5:
        path = some_member(line, "integer", "string", "address", "time", "bool")
        other = some_member(line, where.type_of(path))
        ops = ["==", "!="] if where.type_of(path) in ("bool", "address") else list(where.COMPARE)
        return f"{path} {rng.choice(ops)} {other}"
    if shape == 6:
        path = some_member(line, "integer", "string", "address")
        values = [some_value(line, path) for _ in range(rng.randrange(5))]
        return f"{path} in [{', '.join(values)}]"
    if shape == 7:
        return rng.choice([f"has({some_member(line)})", some_member(line, "bool"),
                           f"{rng.choice([7, 0, 4095, *(line.get('vlan') or [1])])} in vlan",
                           f"{some_member(line, 'integer')} in vlan",
                           rng.choice(["true", "false"])])
    path = some_member(line, "string", "address", "time")
    if shape == 8:
        value = where.value_of(line, path)
        method = rng.choice(["startsWith", "endsWith", "contains"])
        return f"{path}.{method}({quoted(some_part(value or '2001:db8'))})"
    path = some_member(line, "address")
    return f"cidr({quoted(some_network(line, path))}).containsIP({path})"


def expression(line, depth=0):
    shape = rng.randrange(9) if depth < 6 else 9
    if shape < 3:
        op = rng.choice([" && ", " || ", "&&", "\n||\t"])
        return expression(line, depth + 1) + op + expression(line, depth + 1)
    if shape == 3:
        return f"({expression(line, depth + 1)})"
    if shape == 4:
        return f"!({expression(line, depth + 1)})"
    return term(line)


PIECES = ["(", ")", "!", "&&", "||", "==", "<", "in", "[", "]", ",", ".", "'", '"', "5", "-", "0x",
          "'x'", "true", "tcp.reason", "vlan", "tcp", "dest_prot", "\\", "\0", "\u00fc", "=", "1.5",
          "9223372036854775808", "has(", "cidr('10.0.0.0/8')", ".startsWith('1')", "matches", " "]


def spoiled(text):
    """Something is put in, left out or exchanged; often that is an error."""
    for _ in range(rng.randrange(1, 3)):
        i, j = rng.randrange(len(text) + 1), rng.randrange(1, 6)
        shape = rng.randrange(4)
        if shape == 0:
            text = text[:i] + text[i + j:]
        elif shape == 1:
            text = text[:i] + rng.choice(PIECES) + text[i:]
        elif shape == 2:
            words = text.split(" ")
            words[rng.randrange(len(words))] = rng.choice(PIECES)
            text = " ".join(words)
        else:
            text = rng.choice(["!", "(", "true && "]) * rng.randrange(60) + text
    octets = text.encode()
    if rng.random() < 0.1:
        octets = octets[:len(octets) // 2] + b"\xff" + octets[len(octets) // 2:]
    return octets


# ---- the comparison ----

def captures(folder):
    for case in sorted(glob.glob(os.path.join(HERE, "*/"))):
        segments, made = os.path.join(case, "segs.txt"), os.path.join(case, "capture.pcap")
        if os.path.exists(made):
            yield made
        elif os.path.exists(segments):
            with open(segments) as f:
                text = f.read()
            path = os.path.join(folder, os.path.basename(case.rstrip("/")) + ".pcap")
            script.write_pcap(script.compile_script(text), path, script.link_name(text))
            yield path


class Program:
    def __init__(self, files):
        self.p = subprocess.Popen([EVAL, str(SEED), str(RANDOM_RECORDS), *files],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        count = int(self.p.stdout.readline())
        self.lines = [json.loads(self.p.stdout.readline()) for _ in range(count)]

    def judge(self, asked):
        """The answers for pairs of an expression and the number of the first line."""
        requests = "".join(f"{first} {JUDGED} {octets.hex()}\n" for octets, first in asked)
        answers, _ = self.p.communicate(requests.encode(), timeout=600)
        return [a.split() for a in answers.decode().splitlines()]


class Tally:
    def __init__(self):
        self.accepted = self.refused = self.spoiled = self.true = self.verdicts = 0
        self.records = 0
        self.wrong = {"accepts": [], "refuses": [], "record": [], "line": []}

    def compare(self, program, octets, first, answer):
        try:
            tree = where.check(octets)
        except where.Refused as e:
            self.refused += 1
            if answer[0] != "E":
                self.wrong["accepts"].append(f"{octets!r}: {e}")
            return
        if answer[0] != "V":
            self.wrong["refuses"].append(f"{octets!r}: {' '.join(answer)}")
            return
        self.accepted += 1
        for i, (record, line) in enumerate(zip(*answer[1:])):
            event = program.lines[(first + i) % len(program.lines)]
            want = "01"[where.evaluate(tree, event)]
            self.verdicts += 1
            self.true += want == "1"
            self.records += record != "-"
            for name, got in (("record", record), ("line", line)):
                if got not in (want, "-"):
                    self.wrong[name].append(f"{octets!r} is not {got} of {json.dumps(event)}")


def examples():
    """The expressions of the documentation, and the errors that it shows."""
    with open(os.path.join(ROOT, "docs/requests.md")) as f:
        page = f.read()
    right = re.findall(r"^```where\n(.*?)^```", page, re.M | re.S)
    wrong = re.findall(r"^    (\S.*?) {3,}(\d+): (.*)$", page, re.M)
    requests = [json.loads(line) for line in re.findall(r"^    (\{.*\})$", page, re.M)]
    right += [r["where"] for r in requests if "where" in r]
    return [(text.strip().encode(), 0) for text in right], wrong


def main():
    print(f"# seed {SEED} (SEED=... replays)")
    with tempfile.TemporaryDirectory() as folder:
        program = Program(list(captures(folder)))
    kinds = {e["event_type"] for e in program.lines}
    want = {k for m in where.members().values() for k in m.kinds}
    tap.equal(sorted(kinds), sorted(want), f"{len(program.lines)} lines are judged, of every kind")
    t, asked = Tally(), []
    for i in range(EXPRESSIONS):
        first = rng.randrange(len(program.lines))
        text = expression(program.lines[(first + rng.randrange(JUDGED)) % len(program.lines)])
        asked.append((text.encode() if i % 5 else spoiled(text), first))
    shown, refused = examples()
    asked += shown + [(text.encode(), 0) for text, _, _ in refused]
    answers = program.judge(asked)
    tap.ok(program.p.returncode == 0 and len(answers) == len(asked),
           "the program answers all expressions")
    for (octets, first), answer in zip(asked, answers):
        t.compare(program, octets, first, answer)
    print(f"# {t.accepted} accepted, {t.refused} refused; {t.verdicts} verdicts, {t.true} of them "
          f"true, {t.records} of records")
    tap.ok(t.accepted > 0.7 * EXPRESSIONS and t.refused > 0.05 * EXPRESSIONS and
           0.2 < t.true / t.verdicts < 0.8, "expressions are mostly valid, and mean something")
    tap.equal([" ".join(a[1:]) for a in answers[EXPRESSIONS + len(shown):]],
              [f"{at} {text}" for _, at, text in refused],
              f"{len(refused)} errors are those of docs/requests.md")
    idle = [text for text, _ in shown  # no line has the flow_id of the page
            if not text.startswith(b"flow_id ==") and
            not any(where.evaluate(where.check(text), line) for line in program.lines)]
    tap.ok(shown and not idle, f"{len(shown)} examples there find something", idle)
    tap.ok(not t.wrong["accepts"], "what is wrong is refused", t.wrong["accepts"][:3])
    tap.ok(not t.wrong["refuses"], "what is right is accepted", t.wrong["refuses"][:3])
    tap.ok(not t.wrong["record"], "the verdict by the record is that of the second evaluator",
           t.wrong["record"][:3])
    tap.ok(not t.wrong["line"], "so is the verdict by the line's text", t.wrong["line"][:3])
    tap.done()


if __name__ == "__main__":
    main()
