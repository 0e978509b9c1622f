"""Commands: `manylabel train`, `review-labels` and `report`, found by `manylabel` through entry points.

Importing these modules imports no PyTorch: it is loaded when a command runs. Read in this order:

- `train`: the command `train`
- `review`: the commands `review-labels` and `report`
- `data_options`: options for the columns of a file of labelled texts
- `objective_options`: options for threshold objectives and calibration
- `command_setup`: decorators: require the extra `export`, silence libraries, turn signals into errors
"""
