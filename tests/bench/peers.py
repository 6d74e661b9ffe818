"""The tools that synfind is compared with: how each is run, and what it says it saw.

A peer that is not installed, or that fails, is said and left out; nothing depends on any."""
import os
import re
import shutil
import subprocess

from measure import BUILD, ROOT, Failed, note, program

MAX_FLOWS = 1 << 22  # for those that must be told


def first_line(argv, pattern):
    """The version in what a program prints about itself."""
    p = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       stdin=subprocess.DEVNULL)
    m = re.search(pattern, p.stdout.decode(errors="replace"))
    return m.group(1) if m else "version unknown"


def number(pattern, text):
    m = re.search(pattern, text)
    if not m:
        raise Failed(f"no {pattern!r} in what it printed")
    return int(m.group(1))


class Peer:
    name = ""
    binary = ""
    tracks = True  # connections or flows; else it is a floor
    slow = False  # one round is enough
    counts = "connections"  # what count() is to be compared with, as the report says it

    def __init__(self, tmp):
        self.out = os.path.join(tmp, self.binary or self.name)

    def missing(self):
        return None if shutil.which(self.binary) else f"{self.binary} is not installed"

    def version(self):
        return ""

    def clean(self):
        shutil.rmtree(self.out, ignore_errors=True)
        if os.path.exists(self.out):
            os.unlink(self.out)

    def offline(self, pcap):
        """The command that reads a file."""
        return None

    def live(self, interface):
        """The command that watches an interface until it gets SIGINT."""
        return None

    def count(self, cost):
        """How many connections it told of, or None."""
        return None

    def expected(self, workload):
        return workload.connections

    def ask(self):
        """Whatever it says of itself while it runs, before it gets that SIGINT."""
        return ""

    def seen(self, cost):
        """Frames that it saw live, from what it printed and answered; None: it does not say."""
        return None


class Tcpdump(Peer):
    name, binary, tracks = "tcpdump -w /dev/null", "tcpdump", False

    def version(self):
        return first_line(["tcpdump", "--version"], r"tcpdump version (\S+)")

    def offline(self, pcap):
        return ["tcpdump", "-n", "-r", pcap, "-w", "/dev/null"]

    def live(self, interface):  # a buffer of 64 MiB and 128 octets a frame, as synfind
        return ["tcpdump", "-n", "-i", interface, "-s", "128", "-B", "65536", "-w", "/dev/null",
                "tcp"]

    def seen(self, cost):
        return number(r"(\d+) packets? captured", cost.err)


class Nfpcapd(Peer):
    name = binary = "nfpcapd"
    counts = "one-way flows"

    def version(self):
        return first_line(["nfpcapd", "-V"], r"Version: (\S+)")

    def clean(self):
        super().clean()
        os.mkdir(self.out)

    def offline(self, pcap):
        return ["nfpcapd", "-r", pcap, "-w", self.out]

    def live(self, interface):
        return ["nfpcapd", "-i", interface, "-b", "64", "-s", "128", "-w", self.out, "tcp"]

    def count(self, cost):
        out = subprocess.run(["nfdump", "-I", "-R", self.out], stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL).stdout.decode()
        return number(r"Flows: (\d+)", out)

    def expected(self, workload):
        t = workload.truth
        return 2 * (t["connections"] - t["unanswered"]) + t["unanswered"] + t["flood_syns"]

    def seen(self, cost):
        return number(r"Processed: (\d+)", cost.out + cost.err)


class Gotrack(Peer):
    name = binary = "gopacket tracker"

    def missing(self):
        if not shutil.which("go"):
            return "go is not installed"
        if not os.path.isdir("/usr/share/gocode/src/github.com/google/gopacket"):
            return "golang-github-google-gopacket-dev is not installed"
        env = dict(os.environ, GO111MODULE="off", GOPATH="/usr/share/gocode",
                   GOCACHE=os.path.join(BUILD, "go"), GOFLAGS="")
        p = subprocess.run(["go", "build", "-o", program("gotrack"),
                            os.path.join(ROOT, "tests/bench/gotrack/main.go")], env=env,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if p.returncode:
            return "it does not build: " + p.stdout.decode(errors="replace").strip()[:200]
        return None

    def version(self):
        package = "golang-github-google-gopacket-dev"
        p = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package],
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        go = first_line(["go", "version"], r"(go[\d.]+)")
        return f"{p.stdout.decode() or 'version unknown'}, {go}"

    def offline(self, pcap):
        return [program("gotrack"), "-r", pcap]

    def live(self, interface):
        return [program("gotrack"), "-i", interface]

    def count(self, cost):
        return number(r"\bsyn (\d+)", cost.err)

    def seen(self, cost):
        return number(r"packets (\d+)", cost.err)


class Argus(Peer):
    name = binary = "argus"

    def version(self):
        return first_line(["argus", "-h"], r"Argus Version (\S+)")

    def offline(self, pcap):
        return ["argus", "-X", "-r", pcap, "-w", self.out]

    def live(self, interface):
        return ["argus", "-X", "-i", interface, "-w", self.out, "-", "tcp"]

    def records(self, field):
        if not shutil.which("ra"):
            return None
        p = subprocess.Popen(["ra", "-nn", "-L", "-1", "-r", self.out, "-s", field, "-", "tcp"],
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        return p.stdout

    def count(self, cost):
        lines = self.records("proto")
        return sum(1 for _ in lines) if lines else None

    def seen(self, cost):
        lines = self.records("pkts")
        return sum(int(n) for n in lines) if lines else None


class Softflowd(Peer):
    name = binary = "softflowd"

    def version(self):
        return first_line(["softflowd", "-h"], r"version (\S+?)\.? ")

    def command(self, *where):
        return ["softflowd", "-d", "-6", "-m", str(MAX_FLOWS), "-v", "9", "-n", "127.0.0.1:9",
                "-p", self.out + ".pid", "-c", self.out + ".ctl", *where]

    def offline(self, pcap):
        return self.command("-r", pcap)

    def live(self, interface):
        return self.command("-i", interface, "-C", "128", "-B", str(64 << 20), "tcp")

    def ask(self):
        p = subprocess.run(["softflowctl", "-c", self.out + ".ctl", "statistics"],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return p.stdout.decode(errors="replace")

    def count(self, cost):
        return number(r"Flows expired: (\d+)", cost.out + cost.err)

    def seen(self, cost):
        return number(r"Packets processed: (\d+)", cost.out + cost.err)


class Tshark(Peer):
    name, binary, slow = "tshark -z conv,tcp", "tshark", True

    def version(self):
        return first_line(["tshark", "--version"], r"TShark \(Wireshark\) (\S+?)\.? ")

    def offline(self, pcap):
        return ["tshark", "-n", "-q", "-r", pcap, "-z", "conv,tcp"]

    def count(self, cost):
        return cost.out.count("<->")


def available(tmp):
    """The peers that are here, in order; says which are not."""
    found = []
    for kind in (Tcpdump, Nfpcapd, Gotrack, Argus, Softflowd, Tshark):
        peer = kind(tmp)
        why = peer.missing()
        if why:
            note(f"left out: {peer.name}: {why}")
        else:
            found.append(peer)
    return found
