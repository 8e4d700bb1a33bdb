"""How nano-bert is made: its network, its corpus, masking, training and the model card."""
