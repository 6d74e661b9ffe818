"""What kinds of lives connections have in a stream, without times, addresses and counts.

With FREEZE_OUT=FILE in the environment each Book appends the distinct ones to that file, a line
of JSON each; support/freeze.py compares them.  Without it nothing is kept."""
import json
import os

MEMBERS = ("client_state", "server_state", "prev_client_state", "prev_server_state", "segment",
           "basis", "reason", "closed_by", "teardown", "conn_state")
OUT = os.environ.get("FREEZE_OUT")


class Book:
    """The connections of one stream, whose events come one by one."""

    def __init__(self):
        self._lives = {}

    def add(self, event):
        if OUT and event["event_type"].startswith("tcp_") and "tcp" in event:
            tcp = event["tcp"]
            self._lives.setdefault(event["flow_id"], []).append(
                [event["event_type"], *(tcp.get(m) for m in MEMBERS)])

    def close(self):
        """The stream is over."""
        if not OUT:
            return
        with open(OUT, "a") as f:
            for line in sorted({json.dumps(life) for life in self._lives.values()}):
                f.write(line + "\n")
