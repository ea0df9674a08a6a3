//! The ez-api binary: commands, configuration, wiring, life cycle.

fn main() {}
