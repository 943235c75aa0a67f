"""The paper's layers: recurrent networks with batch normalization, and their population statistics."""
