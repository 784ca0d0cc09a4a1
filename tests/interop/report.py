"""Tables that the tests leave for people: build/test-logs/NAME.table; tests/run prints them."""
import os

from .kedge import BUILD

_begun = set()


def publish(name, text):
    """Adds text to the table of this name; the first time in a run it begins anew."""
    folder = os.path.join(BUILD, "test-logs")
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, name + ".table")
    with open(path, "a" if name in _begun else "w", encoding="utf-8") as f:
        f.write(text + "\n")
    _begun.add(name)
    print(text)
