#!/usr/bin/python3
"""What mutants.py would break is still in the sources: else nobody notices before the next time that
they are tried, which takes an hour."""
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests/support"))
import mutants
import tap

try:
    _, found = mutants.read_all()
    tap.ok(len(found) > 1000, "each piece that mutants.py breaks is there, once", len(found))
except SystemExit as e:
    tap.ok(False, "each piece that mutants.py breaks is there, once", e)
tap.done()
