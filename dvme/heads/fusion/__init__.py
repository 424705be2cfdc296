"""Networks: the attention that fuses backbones, and its controls, trained in batches of jobs."""
