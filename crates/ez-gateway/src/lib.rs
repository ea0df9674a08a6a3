//! The data plane: one LLM call from bytes to settlement; upstream transport; durable usage log. hyper, no axum, no database.
