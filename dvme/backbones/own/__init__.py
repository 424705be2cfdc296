"""The user's own backbones, in TOML or Python."""
