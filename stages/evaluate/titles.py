"""What scores and baselines are called where people read of them."""

# What a name in metrics/scores.csv is called on the page, in the order of the table.
SCORES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "precision": "precision (macro)",
    "recall": "sensitivity (macro)",
    "f1": "F1 (macro)",
    "auc": "AUC (macro, one against rest)",
    "mcc": "Matthews correlation",
    "log_loss": "log loss",
    "brier": "Brier score",
    "ece": "expected calibration error",
}

# Scores of one class: what holds them, and what they are called.
OF_CLASS = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "precision_of": "precision",
    "f1_of": "F1",
    "auc_of": "AUC",
}

BASELINES = {
    "majority_class": "always the commonest class",
    "file_facts": "the file alone: size, dimensions, mode, JPEG tables (logistic regression)",
    "border": "the image's outermost 2 pixels alone (logistic regression)",
    "nearest_neighbour": "the most similar training image, at 16 x 16 cells",
}
