//! Builds a model from its spec on burn, trains ranges of its layers, and calibrates a device.
