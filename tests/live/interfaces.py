#!/usr/bin/python3
"""Several interfaces, patterns of names, and interfaces that go down, away, and come back."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import live
import tap


def interface_of(sub, *connection):
    """Makes a connection, as live.exchange(); returns the interface that its close names."""
    return sub.wait_for("tcp_close", **live.exchange(*connection))["in_iface"]


def pattern():
    left, right = live.veth_pair("veth-a", "veth-b", 1)
    live.join(left, right, "veth-c", "veth-d", 2)
    live.join(left, right, "other-a", "other-b", 3)
    d = live.Synfind(left, "veth*", ring_size="4M")
    sub = d.subscribe()
    tap.equal(sorted(sub.events[0]["interfaces"]), ["veth-a", "veth-c"],
              "a pattern takes what it matches")
    hidden = live.exchange(left, right, "10.0.3.2")
    tap.equal([interface_of(sub, left, right, f"10.0.{n}.2") for n in (1, 2)],
              ["veth-a", "veth-c"], "each event names its interface")
    tap.ok(not live.find(sub.events, "tcp_open", **hidden), "what is not matched is not watched")
    d.ends_well(sub, "pattern")


def several():
    left, right = live.veth_pair()
    d = live.Synfind(left, "veth-a,lo", ring_size="4M")
    sub = d.subscribe()
    tap.equal([interface_of(sub, left, right, "10.0.1.2"), interface_of(sub, left, left, "127.0.0.1"),
               interface_of(sub, left, left, "::1")], ["veth-a", "lo", "lo"],
              "a list of interfaces: events come from all, in one stream")
    tap.equal(interface_of(sub, left, left, "10.0.1.1"), "lo",
              "the host's own address goes over loopback")
    d.ends_well(sub, "several")


def any_interface():
    left, right = live.veth_pair()
    d = live.Synfind(right, "any", ring_size="4M")
    sub = d.subscribe()
    tap.ok({"lo", "veth-b"} <= set(sub.events[0]["interfaces"]), "any: all interfaces",
           sub.events[0])
    tap.equal(interface_of(sub, left, right, "10.0.1.2"), "veth-b",
              "any: each event names the interface where it was seen")
    d.ends_well(sub, "any")


def down_and_up():
    left, right = live.veth_pair()
    live.join(left, right, "veth-c", "veth-d", 2)
    d = live.Synfind(left, "veth-a,veth-c", ring_size="4M")
    sub = d.subscribe()
    interface_of(sub, left, right, "10.0.1.2")
    left.ip("link set veth-a down")
    sub.wait_for("iface", in_iface="veth-a", state="down")
    interface_of(sub, left, right, "10.0.2.2")
    tap.ok(True, "an interface goes down: it is told, and the others go on")
    left.ip("link set veth-a up")
    sub.wait_for("iface", in_iface="veth-a", state="up")
    live.wait_up(left, "veth-a")
    tap.equal(interface_of(sub, left, right, "10.0.1.2", 81), "veth-a",
              "it comes up again: it is told, and watched again")
    d.ends_well(sub, "down and up")


def gone_and_back():
    left, right = live.veth_pair()
    live.join(left, right, "veth-c", "veth-d", 2)
    d = live.Synfind(left, "veth-a,veth-c", ring_size="4M")
    sub = d.subscribe()
    interface_of(sub, left, right, "10.0.1.2")
    left.ip("link del veth-a")
    sub.wait_for("iface", in_iface="veth-a", state="gone")
    interface_of(sub, left, right, "10.0.2.2")
    tap.ok(True, "an interface is deleted: it is told, and the others go on")
    live.join(left, right, "veth-a", "veth-b", 1)
    sub.wait_for("iface", in_iface="veth-a", state="back")
    tap.equal(interface_of(sub, left, right, "10.0.1.2", 81), "veth-a",
              "it is made again: it is told, and watched again")
    d.ends_well(sub, "gone and back")


live.need("ip")
for step in (pattern, several, any_interface, down_and_up, gone_and_back):
    with live.guarded(step.__name__):
        step()
tap.done()
