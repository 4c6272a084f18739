"""The model: configuration, presets, backbone, heads and codes."""
