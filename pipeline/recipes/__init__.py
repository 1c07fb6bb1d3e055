"""What several methods share: strategies joined with what measures networks. Methods name the parts and the knobs."""
