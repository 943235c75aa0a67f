"""The paper's language models (section 5.2, appendix A): text, network, training, export, scoring."""
