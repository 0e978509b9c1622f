"""Typical mistakes: a type checker must report an error in every line that has a comment."""

from manylabel import Bundle, Classifier

classifier = Classifier.load(5)  # not a path
Classifier.load("bundle", device="tpu")  # not a device
Classifier.load("bundle", precision="int4")  # not a precision
Classifier.load("bundle", thread=2)  # unknown option
classifier.predict(5)  # not a text
classifier.predict(["a"], thresholds="0.4")  # not a number
classifier.predict_frame([1, 2])  # not a frame
classifier.predict_frame(None, probabilities="all")  # neither argument is valid
classifier.explain(["a"])  # one text at a time
print(classifier.classify("a")[0].label)  # the attribute is labels
Bundle.open(None)  # not a path
