"""What a user gets wrong; a type checker has to say so in every line that has a comment."""

from manylabel import Bundle, Classifier

classifier = Classifier.load(5)  # no path
Classifier.load("bundle", device="tpu")  # no device
Classifier.load("bundle", precision="int4")  # no precision
Classifier.load("bundle", thread=2)  # no such option
classifier.predict(5)  # no text
classifier.predict(["a"], thresholds="0.4")  # no number
classifier.predict_frame([1, 2])  # no frame
classifier.predict_frame(None, probabilities="all")  # neither
classifier.explain(["a"])  # one text at a time
print(classifier.classify("a")[0].label)  # they are labels
Bundle.open(None)  # no path
