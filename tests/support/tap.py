"""The Test Anything Protocol for tests in Python; see interface.h, which does it for C."""
import sys

checks = failed = 0


def ok(good, what, *why):
    """One check; `why` (lines, lists of lines) is shown when it fails.  Returns `good`."""
    global checks, failed
    checks += 1
    failed += not good
    print(f"{'' if good else 'not '}ok {checks} - {what}")
    if not good:
        for w in why:
            for item in w if isinstance(w, (list, tuple)) else [w]:
                diag(item)
    sys.stdout.flush()
    return bool(good)


def equal(got, want, what):
    return ok(got == want, what, f"got  {got!r}", f"want {want!r}")


def skip(what, why):
    """A check that cannot run here; `why` names what is missing."""
    global checks
    checks += 1
    print(f"ok {checks} - {what} # SKIP {' '.join(why.split())}", flush=True)


def diag(text):
    for line in str(text).splitlines() or [""]:
        print("#", line[:2000])


def done():
    """Prints the plan and ends the program."""
    print(f"1..{checks}", flush=True)
    sys.exit(1 if failed else 0)
