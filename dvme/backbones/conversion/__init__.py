"""Published checkpoints that cannot be loaded safely, turned into flat .safetensors files."""
