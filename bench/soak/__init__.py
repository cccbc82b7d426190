"""The soak: some minutes of everything at once on real servers, held against a model at the end.

`ground`: the servers, two daemons and the networks. `tenants`: clients that reserve, plug, label and release, each
with an `account` of what was acknowledged to it; `asking` is how they ask. `foreigners`: other people's ports, tokens
and keys, and the `watch` that sees every state of every port. `chaos`: what goes wrong meanwhile. `seen` and `compare`:
everything that the stores say, against the accounts. `report`: the figures.

`python -m bench.soak` runs it; docs/soak.md says what its figures mean.
"""

import sys
from pathlib import Path

# The clients of the functional tests: other people's OVSDB client, and what a user does on a site.
sys.path.append(str(Path(__file__).parents[2] / "functional"))
