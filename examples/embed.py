"""A classifier inside an application: load once, call from anywhere. Needs `pip install "manylabel[cpu]"` and a bundle.

python examples/embed.py build/demo/bundle
"""

import sys
from concurrent.futures import ThreadPoolExecutor

from manylabel import Classifier

classifier = Classifier.load(sys.argv[1])  # once per process; takes about a third of a second


def handle(review: str) -> str:
    """Handle one review as a request handler would."""
    (prediction,) = classifier.classify(review)
    return f"{', '.join(prediction.labels) or 'no label'}  <-  {review}"


reviews = [
    "Great fabric, but it took two weeks and nobody answered my mails.",
    "Die App hängt sich beim Bezahlen auf.",
    "Just ordered, will report back.",
]

# One by one, as requests arrive, from several threads at the same time.
with ThreadPoolExecutor(4) as pool:
    for line in pool.map(handle, reviews):
        print(line)

# Many at once is faster, and every text gets the same scores as alone.
probabilities = classifier.predict_proba(reviews)
print(f"{probabilities.shape[0]} texts, {probabilities.shape[1]} labels: {', '.join(classifier.classes_)}")
