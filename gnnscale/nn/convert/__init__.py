"""PyG's models as blocks, and back."""
