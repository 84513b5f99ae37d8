"""Portals to verified files: the manifest of a release and the downloads that it lists."""
