"""What every room stands on: types, registry, configuration, random streams, artifacts, devices, errors, progress."""
