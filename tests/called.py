"""What tests let another process call: it has to find them by the name of their module."""

import os
import sys


def grow():
    held = []
    while True:
        held.append(b"x" * 1_000_000)


def say(text):
    os.write(1, text.encode())
    sys.stdout.write(text)  # what a library prints is no answer
    return len(text)


def refuse(why):
    raise ValueError(why)


def deep():
    return deep()
