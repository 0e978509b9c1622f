"""The command line `manylabel`.

In the order in which to read it:

- `main`: the group `manylabel`, and the commands predict, inspect, verify and sign;
- `command_group`: loads commands from entry points when they are named, and turns errors into exit codes;
- `options`: the options that several commands share;
- `rendering`: reads texts from arguments and standard input; writes JSON lines and tables;
- `getting_started`: shell completion, and the next steps that `manylabel` prints without a command.

Every other command is in the `cli.py` of the package that does its work, registered as an entry point in the group
`manylabel.commands`.
"""
