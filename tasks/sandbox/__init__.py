"""The child process that opens what strangers send: takes one message apart under limits and reports it as JSON.

Run as `python -m tasks.sandbox`; it may die of what it opens, its parent (tasks/mailbox/) may not. Knows no
sheet, roster or store, and imports neither Prefect nor pandas, so that a new child costs a fraction of a second.

First line in: {"passwords": {address: [password, …]}, "clamd": address}, answered by {"ready": true}. Then one request
per line, {"path", "out_dir", "passwords": [password, …]}; one report per line out, in the shape of models.returns.Opened.
"""

from tasks.sandbox.message import open_message

__all__ = ["open_message"]
