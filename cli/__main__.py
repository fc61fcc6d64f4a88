"""`python -m cli`, the same as `huifang`."""

from cli import main

main()
