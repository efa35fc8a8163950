"""
How long it takes until something can be asked: imports, and the command's help.

    python benchmarks/startup.py

Each is a process of its own, so that nothing is imported before; the first run of each
is not counted, since it reads files that the system then keeps. Processor time is what
all its threads took, and depends less on what else the machine does.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time

TAKEN = {
    "python -c pass": ["-c", "pass"],
    "import captum_pairs": ["-c", "import captum_pairs"],
    "captum-pairs --help": [
        "-c",
        "from captum_pairs.cli import main; main(['--help'])",
    ],
    "import torch": ["-c", "import torch"],
    "import captum_pairs.attr": ["-c", "import captum_pairs.attr"],
    "captum_pairs.load": ["-c", "from captum_pairs import load"],
}


def seconds(arguments: list[str]) -> tuple[float, float]:
    """Of one process: by the clock, and of the processor."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    clock = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    return clock, user + system


def main() -> None:
    """Prints a table: medians."""
    parser = argparse.ArgumentParser(description="Time imports and --help.")
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    print("| | seconds | processor, s |\n| --- | ---: | ---: |")
    for name, arguments in TAKEN.items():
        seconds(arguments)
        found = [seconds(arguments) for _ in range(rounds)]
        clock, processor = (statistics.median(each) for each in zip(*found))
        print(f"| `{name}` | {clock:.2f} | {processor:.2f} |")


if __name__ == "__main__":
    main()
