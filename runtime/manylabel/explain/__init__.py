"""Explanations: which words and passages of a text a label's score depends on.

In the order in which to read it:

- `occlusion`: `Explanation`, and how it is computed without running a model itself;
- `html_report`: the HTML page of an explanation;
- `cli`: `manylabel explain`.

`Classifier.explain` is the function that users call.
"""
