"""Training: fine-tune an encoder for multi-label classification with the Hugging Face Trainer.

Read in this order:

- `train`: the entry point: labelled texts and a checkpoint in, a run out
- `config`: `TrainConfig`, the hyperparameters of a run with their defaults, and the precision that a machine supports
- `model_init`: the model that training starts from: a new head, or one carried over label by label
- `add_labels`: labels added to a multi-label classifier that keeps its old ones (Learning without Forgetting)
- `lora`: low-rank adapters for large encoders
- `label_priors`: the share of positives per label, and the loss that fits what is known of the labels
- `losses`: binary cross-entropy and losses for positives only
- `collate`: texts to padded batches of similar length
- `long_texts`: training on all windows of a long text
- `trainer`: the Hugging Face Trainer, set up for multi-label classification
- `callbacks`: early stopping, progress, and which checkpoints stay on the disk
- `checkpoints`: the checkpoints of an unfinished run, and resuming from them; imports no PyTorch
- `resource_errors`: errors for a full disk or exhausted memory that say what is kept and how to resume
- `hyperparameter_search`: `--search N` with Optuna
"""

from manylabel.errors import require_extra

require_extra("export", "torch", "transformers")
