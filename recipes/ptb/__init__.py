"""The paper's language models: Tables 2 and 3, Figures 2 and 3, and the search of appendix A."""
