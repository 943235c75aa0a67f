"""Language models with batch normalization (paper, section 5.2 and appendix A)."""
