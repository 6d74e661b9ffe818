#!/usr/bin/python3
"""Who may listen: lists of users and groups, limits, and what becomes of them with a reload; who
sees pseudonyms in place of addresses, and that nothing else tells these."""
import base64
import hashlib
import ipaddress
import json
import os
import re
import signal
import socket
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import fdstore
import live
import pseudonym
import tap

ALICE, BOB, CAROL = 70001, 70002, 70003  # no names: nobody has an account for a test
STAFF, GUESTS, OTHERS = 80001, 80002, 80003


def start(ns, *args, **options):
    """A daemon whose socket everybody can reach; root, as which the tests wait for it, is allowed."""
    tmp = live.tmpdir()
    os.chmod(tmp, 0o711)
    return live.Synfind(ns, "lo", *args, tmp=tmp, socket_mode="0666", **options)


def admitted(d, uid, gid=OTHERS, groups=()):
    """A subscriber who gets its hello, or None."""
    s = d.subscribe(hello=False, user=(uid, gid, groups))
    live.wait_until(lambda: not s.read() or s.events, "a hello or the end")
    if s.events:
        return s
    s.close()
    return None


def refusals(d, reader):
    """Of the newest stats."""
    seen = len(reader.events)
    stats = reader.until(lambda e: live.find(e[seen:], "stats"), "stats")["subscribers"]
    return stats["refused"], {k: n for k, n in stats["refused_by"].items() if n}


def no_list(ns):
    d = start(ns)
    s = admitted(d, ALICE)
    tap.ok(s, "without lists, whoever can open the socket may subscribe")
    d.stop()


def lists(ns):
    d = start(ns, allow_user=f"0,{ALICE}", allow_group=f"{STAFF}", stats_interval="1s")
    root = d.subscribe()
    many = [*range(90000, 91000), STAFF]
    for text, who in (("a user who is allowed", (ALICE,)),
                      ("somebody whose group is allowed", (BOB, STAFF)),
                      ("somebody with a supplementary group that is allowed", (BOB, OTHERS, [STAFF])),
                      ("also if that is the last of a thousand", (BOB, OTHERS, many))):
        tap.ok(admitted(d, *who), f"may subscribe: {text}")
    for text, who in (("a user who is in no list", (BOB,)),
                      ("who has the number of a group that is allowed", (STAFF,)),
                      ("who has the number of a user that is allowed as a group", (BOB, ALICE)),
                      ("a thousand groups, none of them allowed", (BOB, OTHERS, many[:-1]))):
        tap.ok(not admitted(d, *who), f"may not: {text}")
    tap.equal(refusals(d, root), (4, {"unlisted": 4}), "stats count them, with the reason")
    told = re.search(rf"Subscriber of user {BOB} \(pid \d+\) is refused: neither its user nor a group",
                     d.stderr())
    tap.ok(told, "the log tells who and why", d.stderr())
    tap.ok(re.search(rf"Subscriber of user {ALICE} \(pid \d+\) is here", d.stderr()),
           "and who was admitted")
    tap.equal(len(re.findall("is refused", d.stderr())), 2, "once for each user, however often it tries")
    d.stop()


def root_is_in_no_list(ns):
    d = start(ns, allow_user=f"{ALICE}", wait=False)
    live.wait_until(lambda: "Ready" in d.stderr(), "the daemon to be ready")
    tap.ok(admitted(d, ALICE) and not admitted(d, 0, 0), "root is in a list only if it is named")
    d.stop()


def limits(ns):
    d = start(ns, max_subscribers=4, max_subscribers_per_uid=2, stats_interval="1s")
    root = d.subscribe()
    first = [live.wait_until(lambda: admitted(d, ALICE), "two of a user") for _ in range(2)]
    tap.ok(not admitted(d, ALICE), "a third one of the same user is refused")
    bob = admitted(d, BOB)
    tap.ok(bob, "another user is admitted")
    tap.ok(not admitted(d, CAROL), "none is, when there are as many as max-subscribers allows")
    bob.close()
    live.wait_until(lambda: admitted(d, CAROL), "a place")
    refused, why = refusals(d, root)
    tap.equal((why["uid_limit"], sum(why.values())), (1, refused), "stats tell one reason from the other")
    first[0].close()
    live.wait_until(lambda: (lambda s: s and not s.close())(admitted(d, ALICE)), "a place of that user")
    tap.ok(True, "a user who leaves makes room for itself")
    for s in first:
        s.close()
    root2 = live.wait_until(lambda: admitted(d, 0, 0), "a second one of root")
    tap.ok(root2 and not admitted(d, 0, 0), "root has the same limit")
    d.stop()


def reload(ns):
    path = os.path.join(live.tmpdir(), "conf")

    def configure(text):
        live.replace(path, f"[events]\nallow-user = 0\n{text}")

    configure(f"allow-user = {ALICE}, {BOB}\nallow-group = {STAFF}\n")
    d = start(ns, f"--config={path}")
    alice, bob, carol = admitted(d, ALICE), admitted(d, BOB), admitted(d, CAROL, OTHERS, [STAFF])

    def reloaded(text, says):
        configure(text)
        before = d.stderr().count(says)
        d.p.send_signal(signal.SIGHUP)
        live.wait_until(lambda: d.stderr().count(says) > before, "the reload")

    reloaded(f"allow-user = {BOB}\nallow-group = {STAFF}\n", "Configuration read again")
    live.wait_until(lambda: not alice.read(), "the end of her stream")
    tap.ok(alice.ended and not alice.checker.errors,
           "reload: who is not allowed any more is disconnected, behind a whole line")
    tap.ok(not admitted(d, ALICE), "and does not come back")
    reloaded("allow-user = nobody-of-this-name\n", "The configuration cannot be used")
    tap.ok(f"{path}:3: allow-user: 'nobody-of-this-name' is not a user" in d.stderr(),
           "reload: a name that is not there is told by file and line")
    tap.ok(bob.read() and carol.read() and admitted(d, BOB) and not admitted(d, ALICE),
           "and the lists stay as they were")
    # Within the sandbox: by the system's own files.
    reloaded("allow-group = daemon\nallow-user = daemon\n", "Configuration read again")
    live.wait_until(lambda: not bob.read(), "the end of his stream")
    live.wait_until(lambda: not carol.read(), "the end of hers")
    tap.ok(admitted(d, 1, OTHERS) and admitted(d, CAROL, 1),
           "reload: names of /etc/passwd and /etc/group are known inside the sandbox")
    d.stop()


# ---- pseudonyms ----

KEY = bytes(range(100, 132))


def key_file(key=KEY, mode=0o600):
    path = os.path.join(live.tmpdir(), "key")
    with open(path, "wb") as f:
        f.write(key)
    os.chmod(path, mode)
    return path


def community_id(src, sport, dest, dport):
    """Version 1, seed 0, as its specification says."""
    ends = sorted((ipaddress.ip_address(a).packed, p) for a, p in ((src, sport), (dest, dport)))
    data = b"\0\0" + ends[0][0] + ends[1][0] + b"\6\0" + b"".join(p.to_bytes(2, "big") for _, p in ends)
    return "1:" + base64.b64encode(hashlib.sha1(data).digest()).decode()


def masked(event):
    """What somebody who may not see addresses is to get of an event."""
    e = json.loads(json.dumps(event))
    for name in ("src_ip", "dest_ip"):
        if name in e:
            e[name] = pseudonym.address(KEY, e[name])
    for where in (e, e.get("tcp", {})):
        for name in ("flow_id", "prev_flow_id"):
            if name in where:
                where[name] = pseudonym.flow_id(KEY, where[name])
    if "community_id" in e:
        e["community_id"] = community_id(e["src_ip"], e["src_port"], e["dest_ip"], e["dest_port"])
    return e


def talk(ns, address, port, source=None):
    with ns.listen((address, port)) as l:
        c = ns.connect((address, port), (source, 0) if source else None)
        l.accept()[0].close()
        c.close()


def same_port_again(ns, port):
    """Two connections between the same ends: the second one names the first."""
    with ns.listen(("127.0.0.1", port)) as l:
        for _ in range(2):
            c = ns.connect(("127.0.0.1", port), ("127.0.0.1", 45678))
            s = l.accept()[0]
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            s.close()
            c.close()


def ended(port, n=1):
    return lambda e: sum(x["event_type"] == "tcp_close" and x["dest_port"] == port for x in e) >= n


def pseudonyms(ns):
    d = start(ns, pseudonymize_group=GUESTS, pseudonym_key_file=key_file(), stats_interval="1s",
              community_id="all")
    root = d.subscribe()
    guest = admitted(d, BOB, OTHERS, [GUESTS])
    tap.equal((guest.events[0].get("addresses"), root.events[0].get("addresses")), ("pseudonyms", None),
              "the hello of who sees pseudonyms says so")
    tap.ok(re.search(rf"Subscriber of user {BOB} .* is here: it sees pseudonyms", d.stderr()),
           "and so does the log")
    for address in ("127.0.0.1", "127.9.9.9", "::1", "2001:db8::1", "10.0.0.1"):
        talk(ns, address, 80)
    same_port_again(ns, 81)
    for s in (root, guest):
        s.until(ended(80, 5), "five closes")
        s.until(ended(81, 2), "two of the same ends")
        s.until(lambda e: live.find(e, "stats"), "stats")
    # From where the guest came on; root's stream has what is before it as well.
    first, last = guest.events[0]["next_seq"], min(root.events[-1]["seq"], guest.events[-1]["seq"])
    real = [e for e in root.events[1:] if first <= e["seq"] <= last]
    seen = [e for e in guest.events[1:] if e["seq"] <= last]
    kinds = {e["event_type"] for e in real}
    tap.ok({"tcp_open", "tcp_state", "tcp_established", "tcp_close", "stats"} <= kinds and
           any("prev_flow_id" in e.get("tcp", {}) for e in real), "events of every kind are there", kinds)
    different = [(masked(r), s) for r, s in zip(real, seen) if masked(r) != s]
    tap.ok(not different and len(seen) == len(real),
           "who sees pseudonyms gets every event, with pseudonyms, and else the same", *different[:1])
    told = {e[k] for e in real for k in ("src_ip", "dest_ip", "flow_id", "community_id") if k in e}
    octets = b"\n".join(guest.lines).decode()
    tap.ok(len(told) > 15 and not [t for t in told if f'"{t}"' in octets],
           "no address, flow_id or community_id that others see is in it",
           [t for t in told if f'"{t}"' in octets])
    tap.ok(not guest.checker.errors, "and it is a right stream", guest.checker.errors)
    d.stop()


def keys(ns):
    def pseudonym_of_loopback(*args, **options):
        d = start(ns, *args, pseudonymize_user=BOB, **options)
        bob = admitted(d, BOB)
        talk(ns, "127.0.0.1", 80)
        close = bob.until(lambda e: live.find(e, "tcp_close", dest_port=80), "a close")
        d.stop()
        return close["dest_ip"]

    kept = key_file()
    tap.equal([pseudonym_of_loopback(pseudonym_key_file=kept) for _ in range(2)],
              [pseudonym.address(KEY, "127.0.0.1")] * 2, "with a key, pseudonyms outlive the daemon")
    drawn = {pseudonym_of_loopback() for _ in range(2)}
    tap.ok(len(drawn | {"127.0.0.1", pseudonym.address(KEY, "127.0.0.1")}) == 4,
           "without one, each start has its own", drawn)
    for path, why in ((key_file(KEY[:31]), "it must be a file of 32 octets"),
                      (key_file(mode=0o644), "others can read it"),
                      ("/nonexistent", "No such file")):
        d = start(ns, pseudonym_key_file=path, wait=False)
        status = d.wait()
        tap.ok(status == 1 and why in d.stderr(), f"no start with a key that is none: {why}", d.stderr())


def two_queues(ns):
    """Readers of both kinds are each as good as alone, when the queue is small."""
    d = start(ns, pseudonymize_user=BOB, pseudonym_key_file=key_file(), queue_size="64K")
    root, bob = d.subscribe(), admitted(d, BOB)
    sleeper = admitted(d, BOB)
    for n in range(1, 31):
        for _ in range(10):
            talk(ns, "127.0.0.1", 82)
        for s in (root, bob):
            s.until(ended(82, 10 * n), "closes")
    real = [masked(e) for e in root.events if e["seq"] >= bob.events[0]["next_seq"]]
    tap.ok(not [e for e in root.events + bob.events if e["event_type"] == "lost"] and
           real[:len(bob.events) - 1] == bob.events[1:len(real) + 1], "who reads loses nothing, of either kind")
    talk(ns, "127.0.0.1", 83)
    sleeper.until(ended(83), "the newest event at the one that slept")
    lost = [e for e in sleeper.events if e["event_type"] == "lost"]
    mine = {e["seq"] for e in sleeper.events if e["event_type"] not in ("hello", "lost")}
    tap.ok(lost and sum(e["count"] for e in lost) == max(mine) - sleeper.events[0]["seq"] - len(mine) and
           not sleeper.checker.errors, "a slow reader of pseudonyms is told exactly what it lost", lost)
    d.stop()


def masked_by_reload(ns):
    path = os.path.join(live.tmpdir(), "conf")
    with open(path, "w") as f:
        f.write("[events]\n")
    d = start(ns, f"--config={path}")
    bob, root = admitted(d, BOB), d.subscribe()
    tap.ok("addresses" not in bob.events[0], "without lists he sees addresses")
    live.replace(path, f"[events]\npseudonymize-user = {BOB}\n")
    d.p.send_signal(signal.SIGHUP)
    live.wait_until(lambda: not bob.read(), "the end of his stream")
    tap.ok(bob.ended, "reload: who is to see pseudonyms from now on is disconnected")
    bob = admitted(d, BOB)
    talk(ns, "127.0.0.1", 84)
    tap.ok(bob.until(ended(84), "a close") and "127.0.0.1" not in repr(bob.events) and
           bob.events[0]["addresses"] == "pseudonyms", "and sees them when he comes back")
    tap.ok(root.until(ended(84), "a close") and live.find(root.events, "tcp_close", src_ip="127.0.0.1"),
           "nobody else was disturbed")
    d.stop()


def restarts(ns):
    """Who listens, and what they see, goes on in the next process, by its options."""
    m = fdstore.Manager(ns, "lo", socket_mode="0666", allow_user=f"0,{ALICE}",
                        pseudonymize_user=f"{BOB},{CAROL}")
    os.chmod(os.path.dirname(m.path), 0o711)
    m.start()
    alice, bob, carol, root = (live.Subscriber(m.path, user=(u, OTHERS)) for u in (ALICE, BOB, CAROL, 0))
    everybody = (alice, bob, carol, root)
    for s in everybody:
        s.until(lambda e: e, "hello")
    live.wait_until(lambda: len(m.readers()) == len(everybody), "them to be stored")
    talk(ns, "127.0.0.1", 80)
    first = bob.until(lambda e: live.find(e, "tcp_close", dest_port=80), "a close")
    for n in range(1, 4):
        m.end(signal.SIGKILL)
        m.start()
        talk(ns, "127.0.0.1", 81)
        for s in everybody:
            s.until(ended(81, n), "a close after a restart")
    again = [e for e in bob.events if e["event_type"] == "tcp_close"]
    tap.equal({e["dest_ip"] for e in again}, {first["dest_ip"]},
              "killed, a daemon without a key file goes on with its pseudonyms")
    tap.ok(first["dest_ip"] != "127.0.0.1" and "127.0.0.1" not in repr(bob.events) and
           not [s.checker.errors for s in everybody if s.checker.errors],
           "and all go on with what they saw", [s.checker.errors for s in everybody])
    tap.equal({e["seq"] for e in bob.events[1:]}, {e["seq"] for e in root.events
              if bob.events[0]["seq"] < e["seq"] <= bob.events[-1]["seq"]}, "which is every event, for each")
    m.argv = [a.replace(f",{ALICE}", "").replace(f"{BOB},", "") for a in m.argv]
    m.end(signal.SIGKILL)
    m.start()
    live.wait_until(lambda: not alice.read() and not bob.read(), "the end of their streams")
    tap.ok(alice.ended and bob.ended, "who may not listen any more is not taken over")
    talk(ns, "127.0.0.1", 82)
    tap.ok(carol.until(ended(82), "a close") and root.until(ended(82), "a close"), "the others are")
    m.argv.append(f"--pseudonym-key-file={key_file()}")
    m.end(signal.SIGKILL)
    m.start()
    live.wait_until(lambda: not carol.read(), "the end of her stream")
    tap.ok(carol.ended, "nor is a stream of pseudonyms, under another key")
    talk(ns, "127.0.0.1", 83)
    tap.ok(root.until(ended(83), "a close") and not root.checker.errors, "that of addresses is",
           root.checker.errors)
    m.end(signal.SIGTERM)
    m.empty()


live.need("ip")
ns = live.Netns()
for extra in ("2001:db8::1/128", "10.0.0.1/32"):
    ns.ip(f"addr add {extra} dev lo")
for step in (no_list, lists, root_is_in_no_list, limits, reload, pseudonyms, keys, two_queues,
             masked_by_reload, restarts):
    with live.guarded(step.__name__):
        step(ns)
tap.done()
