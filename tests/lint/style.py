#!/usr/bin/python3
"""Holds how the sources look: format, comments, names, nothing mutable, nothing left to do."""
import rules
from check import check, done

check("clang-format has nothing to change", rules.unformatted)
check(f"no line has more than {rules.COLUMNS} columns", rules.long_lines)
check("lib/ has no mutable variable at file scope", rules.mutable_variables)
check("each prototype in a header has a comment", rules.undocumented)
check("no name is of the old vocabulary", rules.old_words)
check("nothing in the sources is left to do", rules.leftovers)
done()
