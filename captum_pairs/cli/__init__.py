"""The command ``captum-pairs``.

Options are checked before anything heavy is imported or run, and nothing heavy is
imported before a command needs it: ``--help`` and a wrong name are answered at once.
"""

from captum_pairs.cli.commands import main
from captum_pairs.cli.study import study

__all__ = ["main"]

main.add_command(study)
