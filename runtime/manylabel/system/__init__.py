"""What the runtime needs of the operating system. Independent of models, bundles and text classification.

- `atomic_write`: write a file or folder completely or not at all;
- `resource_errors`: a full disk or exhausted memory as an error with the next step;
- `process_supervisor`: run a command in a child process that may be killed by a lack of memory;
- `hardware_info`: processor, instruction sets, available cores and CPU quota, installed versions;
- `sealed_file`: a copy of a file that nobody can change;
- `did_you_mean`: suggestions for error messages;
- `unicode`: lone surrogates.
"""
