"""`python -m cli`, the same as `huifang`."""

from cli import main

if __name__ == "__main__":  # child processes import this file too
    main()
