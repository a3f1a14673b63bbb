"""python -m csms: the same as the `tasco` command."""

from csms.cli import main

if __name__ == "__main__":
    main()
