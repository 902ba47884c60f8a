"""Runs tests of Tornado or of Twisted by their own runners, and writes how each one ended.

    outcomes.py REPORT tornado|twisted NAME… [--only ID…]

The report has the form of JUnit's, a test case by its full id. With --only, no other test is run;
by a filter, because not every id is a name that a loader takes (doctests).
"""

import os
import sys
import tempfile
import unittest
from xml.sax.saxutils import quoteattr

RANKS = ("passed", "skipped", "failed")
outcomes = {}


def note(test, outcome):
    # One test may report more than once, such as its subtests or its clean-up: the worst counts.
    known = outcomes.get(test.id(), outcome)
    outcomes[test.id()] = max(known, outcome, key=RANKS.index)


def noting(base):
    """A result as `base`, which also takes notes."""

    class Noting(base):
        pass

    def note_too(method, outcome):
        told = getattr(base, method)

        def add(self, test, *rest, **named):
            note(test, outcome)
            return told(self, test, *rest, **named)

        setattr(Noting, method, add)

    for method in ("addSuccess", "addExpectedFailure"):
        note_too(method, "passed")
    for method in ("addFailure", "addError", "addUnexpectedSuccess"):
        note_too(method, "failed")
    note_too("addSkip", "skipped")
    if hasattr(base, "addSubTest"):
        told = base.addSubTest

        def add_sub_test(self, test, subtest, error):
            note(subtest, "passed" if error is None else "failed")
            return told(self, test, subtest, error)

        Noting.addSubTest = add_sub_test
    return Noting


def single_tests(suite):
    if isinstance(suite, unittest.TestCase):
        yield suite
        return
    try:
        tests = iter(suite)
    except TypeError:
        yield suite
        return
    for test in tests:
        yield from single_tests(test)


def chosen(suite, only):
    if not only:
        return suite
    return type(suite)([test for test in single_tests(suite) if test.id() in only])


def run_tornado(names, only):
    from tornado.test import runtests

    unittest.TextTestRunner.resultclass = noting(unittest.TextTestResult)
    # Its runner takes tests by name; a function that gives a suite has one, too.
    runtests.chosen = lambda: chosen(unittest.defaultTestLoader.loadTestsFromNames(names), only)
    sys.argv[1:] = [runtests.__name__ + ".chosen"]
    runtests.main()


def run_twisted(names, only):
    from twisted.trial import reporter, runner

    suite = chosen(runner.TestLoader().loadByNames(names, recurse=True), only)
    folder = os.path.join(tempfile.mkdtemp(), "trial")
    runner.TrialRunner(noting(reporter.Reporter), workingDirectory=folder).run(suite)


def main():
    report, package, *words = sys.argv[1:]
    cut = words.index("--only") if "--only" in words else len(words)
    names, only = words[:cut], set(words[cut + 1 :])
    try:
        {"tornado": run_tornado, "twisted": run_twisted}[package](names, only)
    finally:
        with open(report, "w", encoding="utf-8") as file:
            file.write("<testsuite>\n")
            for name, outcome in outcomes.items():
                told = {"passed": "", "skipped": "<skipped/>", "failed": "<failure/>"}[outcome]
                file.write(f"<testcase name={quoteattr(name)}>{told}</testcase>\n")
            file.write("</testsuite>\n")


if __name__ == "__main__":
    main()
