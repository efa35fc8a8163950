"""``nox`` or ``nox -s fast`` before a commit, ``nox -s full`` before a merge.

What each runs is listed in .ci/gates, as for .ci/run.
"""

import nox

nox.options.sessions = ["fast"]
nox.options.reuse_venv = "yes"


@nox.session
def fast(session: nox.Session) -> None:
    """The plain tests, and what looks at the source."""
    gates(session, "format", "lint", "types", "tests")


@nox.session
def full(session: nox.Session) -> None:
    """All that .ci/run runs, in this checkout."""
    gates(session)


def gates(session: nox.Session, *steps: str) -> None:
    session.install("--editable", ".[dev]")
    session.run("bash", ".ci/gates", *steps, external=True)
