#!/usr/bin/python3
"""Holds the order of the layers, which docs/architecture.md states: see tests/README.md."""
import rules
from check import check, done

check("docs/architecture.md states the layers, of each folder and file", rules.layers_written)
check("a file includes lower layers only", rules.includes_downward)
check("a function calls lower layers only", rules.calls_downward)
check("no file includes itself, however far around", rules.include_cycles)
check(f"no header is more than {rules.DEPTH} includes deep", rules.deep_headers)
done()
