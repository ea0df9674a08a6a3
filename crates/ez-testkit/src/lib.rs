//! What tests, the demo and benches stand on: simulated upstream, test databases and state, the real binary in a sandbox, load generator. Never part of the product.
