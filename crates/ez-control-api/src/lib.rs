//! The control plane over HTTP: one route table, DTOs, extractors, problem+json, OpenAPI for public, master, admin and internal APIs.
