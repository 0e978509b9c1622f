"""What experiments share.

In reading order: `result_io` writes `result.json` and `README.md`; `multi_seed` compares ways of training over several
seeds; `readme_tables` fills the tables in the project's README.
"""
