"""dvme shown on photographs that a package brings."""
