"""A rule as a check of the Test Anything Protocol."""
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests/support"))
import tap
from rules import CannotCheck
from tap import done


def check(name, rule):
    try:
        found = rule(ROOT)
    except CannotCheck as e:
        tap.skip(name, str(e))
    else:
        tap.ok(not found, name, found)
