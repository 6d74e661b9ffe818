#!/usr/bin/python3
"""Hundreds of interfaces that come and go, with ever new names, as containers make them: each one is
watched and reported, and the daemon does not grow."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import live
import syn
import tap

AT_ONCE = int(os.environ.get("AT_ONCE", "300"))
ROUNDS = int(os.environ.get("ROUNDS", "2"))
LOST = 8         # rounds in which the kernel drops messages, and each time another one first
LOST_LINKS = 60  # about 300 messages; the opener's socket holds a hundred
GROWTH_KB = 6000  # in all rounds after the first: names that are remembered, the allocator's slack


def rss_kb(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return sum(int(line.split()[1]) for line in f if line.startswith(("Private_Dirty:", "Private_Clean:")))


def settled_kb(pid):
    """When it frees no more."""
    last = []

    def is_settled():
        last.append(rss_kb(pid))
        return len(last) > 20 and len(set(last[-20:])) == 1

    live.wait_until(is_settled, "the memory to settle")
    return last[-1]


def batch(ns, *commands):
    path = os.path.join(live.tmpdir(), "batch")
    with open(path, "w") as f:
        f.write("\n".join(commands))
    ns.run("ip", "-batch", path)


def names(n):
    return [f"v{n}x{i}" for i in range(AT_ONCE)]


def states(sub, state):
    return sorted(e["in_iface"] for e in sub.events if e["event_type"] == "iface" and e["state"] == state)


live.need("ip")
with live.guarded("many"):
    ns = live.Netns()
    d = live.Synfind(ns, "v*", "--ring-size=1M", "--ring-block-size=128K", "--max-connections=1024",
                     "--max-half-open=1024", "--event-ring-size=1024")
    sub = d.subscribe()
    opener = live.children(live.children(d.p.pid)[0])[0]
    sizes, expected = [], []
    for n in range(ROUNDS):
        expected = sorted(expected + names(n))
        batch(ns, *(f"link add {name} up type veth peer name p{name} " for name in names(n)),
              *(f"link set p{name} up" for name in names(n)))
        live.wait_until(lambda: sub.read() and states(sub, "up") >= expected and states(sub, "up") == expected,
                        f"{AT_ONCE} interfaces to be up", 3 * live.DEADLINE)
        ns.send("p" + names(n)[-1], [syn.frame(n)])
        live.wait_until(lambda: sub.read() and any(e["event_type"] == "tcp_open" and
                        e["in_iface"] == names(n)[-1] for e in sub.events), "a SYN on the last one")
        batch(ns, *(f"link del {name}" for name in names(n)))
        live.wait_until(lambda: sub.read() and states(sub, "gone") == expected,
                        f"{AT_ONCE} interfaces to be gone", 3 * live.DEADLINE)
        sizes.append(settled_kb(d.p.pid))
    tap.equal(len(os.listdir(f"/proc/{d.p.pid}/task")), 2, "one decoder has the frames of all")
    tap.equal(states(sub, "up"), expected, f"each of {len(expected)} names is reported up, once")
    tap.equal(states(sub, "gone"), expected, "and gone, once")
    tap.diag(f"private memory after each round: {sizes} kB")
    tap.ok(sizes[-1] - sizes[0] < GROWTH_KB, "the daemon does not grow", sizes)
    tap.ok(not sub.checker.errors, "the stream is right", sub.checker.errors)
    ns.run("ip", "link", "add", "other", "type", "veth", "peer", "name", "peer")
    for n in range(LOST):
        lost = [f"v{i}lost{n}" for i in range(LOST_LINKS)]
        expected = sorted(expected + lost)
        batch(ns, *(f"link add {name} up type veth peer name p{name}" for name in lost))
        live.wait_until(lambda: sub.read() and states(sub, "up") == expected, f"round {n}: interfaces to be up")
        os.kill(opener, signal.SIGSTOP)
        batch(ns, *(f"link set other alias {i}" for i in range(n)), *(f"link del {name}" for name in lost))
        os.kill(opener, signal.SIGCONT)
        live.wait_until(lambda: sub.read() and states(sub, "gone") == expected, f"round {n}: interfaces to be gone")
    tap.ok(True, "an interface is reported gone, whichever of its messages the kernel dropped")
    d.stop()
tap.done()
