"""One module per workflow rule: paths and frozen parameters in, artifacts out. The only readers of YAML and argv."""
