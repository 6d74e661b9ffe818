"""A second evaluator of `where`, written from docs/requests.md and not from the program: types and
words come from docs/events.schema.json, values from the parsed line.

    check(text)         raises Refused if the expression (octets) is not one
    evaluate(tree, line) its verdict; the tree is what check() returns, the line a dict
"""
import functools
import ipaddress
import json
import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OCTETS, TERMS, VALUES, NESTING = 1024, 100, 100, 32
# No expression decides about these: their members are none of the language.
ALWAYS_SENT = {"hello", "subscribed", "error", "snapshot_end"}
TIME = "dddd-dd-ddTdd:dd:dd.dddddddddZ"


class Refused(Exception):
    pass


# ---- members, from the schema ----

class Member:
    def __init__(self):
        self.types, self.words, self.kinds = set(), set(), set()
        self.any_word = False


def resolve(schema, node):
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].removeprefix("#/$defs/")]
    return node


def learn(schema, kind, node, prefix, ret):
    for name, value in node.get("properties", {}).items():
        address = value.get("$ref") == "#/$defs/ip"
        time = value.get("$ref") == "#/$defs/time"
        value = resolve(schema, value)
        words = value.get("enum") or ([value["const"]] if "const" in value else None)
        m = ret.setdefault(prefix + name, Member())
        m.kinds.add(kind)
        if value.get("type") == "object":
            m.types.add("group")
            learn(schema, kind, value, prefix + name + ".", ret)
        elif value.get("type") == "array":
            m.types.add("list" if value["items"].get("type") == "integer" else "group")
        elif value.get("type") == "boolean":
            m.types.add("bool")
        elif value.get("type") == "integer" or words and isinstance(words[0], int):
            m.types.add("integer")
        else:
            m.types.add("address" if address else "time" if time else "string")
            m.words.update(words or ())
            m.any_word = m.any_word or not words


@functools.lru_cache(maxsize=1)
def members():
    with open(os.path.join(ROOT, "docs/events.schema.json")) as f:
        schema = json.load(f)
    found = {}
    for one in schema["oneOf"]:
        kind = one["$ref"].removeprefix("#/$defs/")
        if kind not in ALWAYS_SENT:
            learn(schema, kind, schema["$defs"][kind], "", found)
    assert all(len(m.types) == 1 for m in found.values())
    return found


def type_of(path):
    m = members().get(path)
    if not m:
        raise Refused(f"no member {path}")
    return next(iter(m.types))


# ---- the language ----

TOKEN = re.compile(r"""[ \t\n\r\f]*(?:
      (?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)
    | (?P<number>-?(?:0[xX][0-9a-fA-F]+|[0-9]+)(?![\w]|\.[0-9]))
    | (?P<string>'(?:[^'\\\n\r]|\\.)*'|"(?:[^"\\\n\r]|\\.)*")
    | (?P<symbol>==|!=|<=|>=|&&|\|\||[<>!()\[\],.]))""", re.X | re.A)
ESCAPE = dict(zip("\\\"'`?abfnrtv", "\\\"'`?\a\b\f\n\r\t\v"))
COMPARE = {"==": lambda a, b: a == b, "!=": lambda a, b: a != b, "<": lambda a, b: a < b,
           "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b}
SWAPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
LITERALS = ("integer", "bool", "string")


def unescape(text):
    def one(m):
        if m[1] not in ESCAPE:
            raise Refused("escape")
        return ESCAPE[m[1]]
    return re.sub(r"\\(.)", one, text)


def tokens(octets):
    if len(octets) > OCTETS or b"\0" in octets:
        raise Refused("long, or a NUL")
    try:
        text = octets.decode()
    except UnicodeDecodeError as e:
        raise Refused("not UTF-8") from e
    found, at = [], 0
    text = text.rstrip(" \t\n\r\f")
    while at < len(text):
        m = TOKEN.match(text, at)
        if not m:
            raise Refused("no token")
        at = m.end()
        if m["name"]:
            word = {"true": ("bool", True), "false": ("bool", False), "in": ("in", None)}
            found.append(word.get(m["name"], ("name", m["name"])))
        elif m["number"]:
            n = int(m["number"], 16 if "x" in m["number"].lower() else 10)
            if not -2**63 <= n < 2**63:
                raise Refused("range")
            found.append(("integer", n))
        elif m["string"]:
            found.append(("string", unescape(m["string"][1:-1])))
        else:
            found.append((m["symbol"], None))
    return found + [("end", None)]


def spelled(address):
    mapped = getattr(address, "ipv4_mapped", None)
    return f"::ffff:{mapped}" if mapped else str(address)


def address_of(text):
    if "%" in text:
        raise Refused("zone")
    try:
        return ipaddress.ip_address(text)
    except ValueError as e:
        raise Refused("address") from e


def network_of(text):
    m = re.fullmatch(r"([0-9A-Fa-f:.]+)/(0|[1-9][0-9]{0,2})", text, re.A)
    if not m:
        raise Refused("network")
    address = address_of(m[1])
    if int(m[2]) > address.max_prefixlen:
        raise Refused("bits")
    return ipaddress.ip_network(text, strict=False)


def fits(path, literal, equality):
    """Can the literal be compared with the member?"""
    kind, want = type_of(path), literal[0]
    if (kind if kind in ("integer", "bool") else "string") != want:
        raise Refused("type")
    value, m = literal[1], members()[path]
    if kind == "address" and spelled(address_of(value)) != value:
        raise Refused("spelling")
    if kind == "time" and (len(value) > len(TIME) or
                           any(c not in "0123456789" if f == "d" else c != f
                               for c, f in zip(value, TIME))):
        raise Refused("time")
    if kind == "string" and equality and not m.any_word and value not in m.words:
        raise Refused("word")


class Parser:
    def __init__(self, octets):
        self.tokens = tokens(octets)
        self.at = self.terms = self.values = self.nesting = 0

    @property
    def token(self):
        return self.tokens[self.at][0]

    def take(self, want=None):
        kind, value = self.tokens[self.at]
        if want and kind != want:
            raise Refused(f"{want}, not {kind}")
        self.at += 1
        return value

    def expression(self):
        tree = self.either()
        self.take("end")
        return tree

    def either(self):
        tree = self.both()
        while self.token == "||":
            self.take()
            tree = ("or", tree, self.both())
        return tree

    def both(self):
        tree = self.negation()
        while self.token == "&&":
            self.take()
            tree = ("and", tree, self.negation())
        return tree

    def deeper(self):
        self.nesting += 1
        if self.nesting > NESTING:
            raise Refused("nesting")

    def negation(self):
        if self.token == "!":
            self.take()
            self.deeper()
            tree = ("not", self.negation())
            if tree[1][0] in ("compare", "in"):
                raise Refused("! before a comparison")
            self.nesting -= 1
            return tree
        if self.token == "(":
            self.take()
            self.deeper()
            tree = ("group", self.either())
            self.take(")")
            self.nesting -= 1
            return tree
        self.terms += 1
        if self.terms > TERMS:
            raise Refused("terms")
        return self.term()

    def literal(self):
        self.values += 1
        if self.values > VALUES:
            raise Refused("values")
        return self.tokens[self.at][0], self.take()

    def member(self):
        path = self.take("name")
        type_of(path)
        return path

    def term(self):
        if self.token == "name":
            name = self.take()
            if self.token == "(":
                return self.call(name)
            return self.relation(name)
        if self.token not in LITERALS:
            raise Refused("no condition")
        kind, value = self.tokens[self.at]
        following = self.tokens[self.at + 1][0]
        if following not in COMPARE and following != "in":
            self.take()
            if kind != "bool":
                raise Refused("a value")
            return ("constant", value)
        literal, op = self.literal(), self.token
        self.take()
        path = self.member()
        if op == "in":
            if type_of(path) != "list" or kind != "integer":
                raise Refused("no list")
            return ("in", ("literal", value), path)
        self.comparable(path, op)
        fits(path, literal, op in ("==", "!="))
        return ("compare", SWAPPED.get(op, op), path, ("literal", value))

    def comparable(self, path, op):
        kind = type_of(path)
        if kind in ("list", "group") or kind in ("address", "bool") and op not in ("==", "!="):
            raise Refused("not to be compared")

    def relation(self, path):
        kind = type_of(path)
        if self.token in COMPARE:
            op = self.token
            self.comparable(path, op)
            self.take()
            if self.token in LITERALS:
                literal = self.literal()
                fits(path, literal, op in ("==", "!="))
                return ("compare", op, path, ("literal", literal[1]))
            other = self.member()
            text = ("string", "time")
            if type_of(other) != kind and not (kind in text and type_of(other) in text):
                raise Refused("types")
            return ("compare", op, path, ("member", other))
        if self.token == "in":
            self.take()
            if kind in ("list", "group"):
                raise Refused("list in")
            if self.token != "[":
                if type_of(self.member()) != "list" or kind != "integer":
                    raise Refused("no list")
                return ("in", ("member", path), self.tokens[self.at - 1][1])
            return ("in", ("member", path), self.elements(path))
        if kind != "bool":
            raise Refused("no condition")
        return ("truth", path)

    def elements(self, path):
        found = []
        self.take("[")
        while self.token != "]":
            if found:
                self.take(",")
            if self.token not in LITERALS:
                raise Refused("no value")
            literal = self.literal()
            fits(path, literal, True)
            found.append(literal[1])
        self.take("]")
        return found

    def call(self, name):
        self.take("(")
        if name == "has":
            path = self.member()
            self.take(")")
            return ("has", path)
        if name == "cidr":
            net = network_of(self.string())
            self.take(")")
            self.take(".")
            if self.take("name") != "containsIP":
                raise Refused("containsIP")
            self.take("(")
            path = self.member()
            self.take(")")
            if type_of(path) != "address":
                raise Refused("no address")
            return ("cidr", net, path)
        path, _, method = name.rpartition(".")
        if method not in ("startsWith", "endsWith", "contains"):
            raise Refused("function")
        if type_of(path) not in ("string", "time", "address"):
            raise Refused("no string")
        value = self.string()
        self.take(")")
        return (method, path, value)

    def string(self):
        if self.token != "string":
            raise Refused("no string")
        return self.literal()[1]


def check(octets):
    return Parser(octets).expression()


# ---- evaluation ----

def value_of(line, path):
    for name in path.split("."):
        line = line.get(name) if isinstance(line, dict) else None
    return line


def evaluate(tree, line):
    op = tree[0]
    if op == "and":
        return evaluate(tree[1], line) and evaluate(tree[2], line)
    if op == "or":
        return evaluate(tree[1], line) or evaluate(tree[2], line)
    if op == "not":
        return not evaluate(tree[1], line)
    if op == "group":
        return evaluate(tree[1], line)
    if op == "constant":
        return tree[1]
    if op == "compare":
        a = value_of(line, tree[2])
        b = tree[3][1] if tree[3][0] == "literal" else value_of(line, tree[3][1])
        if isinstance(a, str) and isinstance(b, str):
            a, b = a.encode(), b.encode()
        return a is not None and b is not None and COMPARE[tree[1]](a, b)
    if op == "in":
        a = tree[1][1] if tree[1][0] == "literal" else value_of(line, tree[1][1])
        among = tree[2] if isinstance(tree[2], list) else value_of(line, tree[2])
        return a is not None and among is not None and a in among
    if op == "cidr":
        a = value_of(line, tree[2])
        return a is not None and ipaddress.ip_address(a) in tree[1]
    value = value_of(line, tree[1])
    if value is None:
        return False
    if op == "has":
        return True
    if op == "truth":
        return value
    return {"startsWith": value.startswith, "endsWith": value.endswith,
            "contains": lambda x: x in value}[op](tree[2])
