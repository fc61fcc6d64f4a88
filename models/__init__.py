"""The nouns: what each word means, its schema, and the rules that need nothing but it.

Nothing here touches a file, a socket, a clock, the environment, a logger, chance or Prefect.
"""


class CallbackError(Exception):
    """Root of every error this system raises; the message names file, sheet, row or key and what to do."""
