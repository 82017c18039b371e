"""Contestants in processes of their own, and rounds in which they take turns."""

import json
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

Answer = dict[str, float]


class Contestant:
    """A contestant's process: it answers every line of its standard input with one of figures as JSON.

    Args:
        name: which.
        command: arguments of Python that start it.
    """

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, question: object = "") -> Answer:
        """What one turn costs."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{question}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name}: its process ended with {self.process.wait()}")
        answer: Answer = json.loads(line)
        return answer

    def close(self) -> None:
        """End it and its loaders."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(timeout=60)


Turn = TypeVar("Turn", bound=Contestant)


def take_turns(
    contestants: Sequence[Turn], rounds: int, turn: Callable[[Turn], Answer]
) -> dict[str, list[Answer]]:
    """Everybody's answers by name: one turn each in every round, in a new order every round."""
    answers: dict[str, list[Answer]] = {contestant.name: [] for contestant in contestants}
    turns, order = list(contestants), random.Random(0)  # noqa: S311  # an order, not a secret
    for number in range(rounds):
        order.shuffle(turns)
        for contestant in turns:
            answers[contestant.name].append(turn(contestant))
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    return answers
