#!/usr/bin/python3
"""Holds that calls run one way: direct ones have no cycle, those through pointers are listed."""
import rules
from check import check, done

check("no function calls itself, however far around", rules.recursion)
check("files of lib/flow and of daemon/synfind call each other one way", rules.file_cycles)
check("callbacks.txt has each function that is called through a pointer", rules.callbacks)
check("in lib/flow kept memory is lent by undo_edit(), and not saved otherwise", rules.kept_memory)
done()
