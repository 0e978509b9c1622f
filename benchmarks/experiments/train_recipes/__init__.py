"""train_recipes."""
