"""What a fitted fusion attends to, what it relies on, and how alike its backbones are. Numbers; reports draw them."""
