"""What coverage-guided fuzzing runs: a module for each parser of what others write (docs/fuzzing.md).

Each has `check(data)`, which takes any bytes and raises if the parser does what it must not, and SEEDS: real examples,
and whatever was once found. tests/test_fuzz.py runs every check on every seed.
"""

TARGETS = ("manifests_json", "manifests_yaml", "exclude_ips", "port_elements", "records", "wire")
