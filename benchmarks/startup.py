"""How long a person waits for `import discern` and `discern --help`: medians over fresh processes.

python -m benchmarks.startup
"""

import shutil
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import discern": [sys.executable, "-c", "import discern"],
    "discern --help": [shutil.which("discern") or "discern", "--help"],
}


def main(repeats: int = 5) -> None:
    """Print a table of seconds."""
    print("| command | median s | slowest s |\n| --- | ---: | ---: |")
    for name, command in COMMANDS.items():
        subprocess.run(command, capture_output=True, check=True)  # files into the page cache
        seconds = []
        for _ in range(repeats):
            began = time.perf_counter()
            subprocess.run(command, capture_output=True, check=True)
            seconds.append(time.perf_counter() - began)
        print(f"| `{name}` | {statistics.median(seconds):.2f} | {max(seconds):.2f} |")


if __name__ == "__main__":
    main()
