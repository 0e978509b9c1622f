"""`python -m manylabel`."""

from manylabel.cli import main

main(prog_name="manylabel")
