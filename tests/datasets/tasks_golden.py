#!/usr/bin/env python3
"""Writes tasks_golden.txt from the reference's tasks.py: ten seeds of every task at several sizes.

    python3 tests/datasets/tasks_golden.py ../shared/reference > tests/datasets/tasks_golden.txt

One text a line: task seed size depth ignore reversed bytes answers hash. The hash is FNV-1a (64 bits) of the text and
of the answers' ends as " begin end", one after the other.
"""
import sys

sys.path.insert(0, sys.argv[1])
import tasks


def fnv(data: bytes) -> int:
    h = 0xCBF29CE484222325
    for byte in data:
        h = (h ^ byte) * 0x100000001B3 & (1 << 64) - 1
    return h


def line(name, seed, size, example, depth=-1.0, ignore=0.8, backwards=False):
    ends = "".join(f" {begin} {end}" for begin, end in example.scored)
    print(name, seed, size, depth, ignore, int(backwards), len(example.text), len(example.scored),
          f"{fnv(example.text + ends.encode()):016x}")


for n in range(10):
    seed = 12345678901234567 + 7919 * n
    for size in 300, 711, 5000:
        for depth in -1.0, 0.0, 0.33, 0.5, 1.0:
            line("passkey", seed, size, tasks.passkey(seed, size, depth), depth=depth)
    for size in 1, 40:
        line("lines", seed, size, tasks.lines(seed, size))
    for size, ignore in (2, 0.8), (16, 0.8), (256, 0.98), (256, 0.1):
        line("flip_flop", seed, size, tasks.flip_flop(seed, size, ignore), ignore=ignore)
    for size in 1, 40, 501:
        for name in "first", "parity", "copy", "reverse", "addition":
            line(name, seed, size, getattr(tasks, name)(seed, size))
        line("addition", seed, size, tasks.addition(seed, size, True), backwards=True)
    for name, least in tasks.TASKS.items():
        for size in least, least + 1, 40, 83:
            line(name, seed, size, tasks.algorithmic(name, seed, size))
