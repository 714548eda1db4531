"""Models: `Sequential`, copies of its architecture, and the search for a learning rate."""

from fusednn.models.clone import clone_model
from fusednn.models.learning_rate_finder import LearningRateTest, find_learning_rate
from fusednn.models.sequential import Sequential

__all__ = ["LearningRateTest", "Sequential", "clone_model", "find_learning_rate"]
