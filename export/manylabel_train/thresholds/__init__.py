"""Decision thresholds: one for every label, chosen on validation data. Depends on scores and labels, not on a model.

Read in this order:

- `objectives`: what a threshold is for: the best F-beta, or a minimum precision or recall
- `selection`: thresholds for given objectives; calls the modules below
- `tuning`: thresholds for F-beta that generalise to new texts, and thresholds that match another model's decisions
- `constraints`: thresholds with a minimum precision or recall on the validation texts
- `learn_then_test`: thresholds that guarantee precision or recall on new texts, with stated confidence
"""
