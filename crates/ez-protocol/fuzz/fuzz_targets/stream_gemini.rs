//! Streamed answers of Gemini.

#![no_main]

ez_protocol_fuzz::target!(|bytes| ez_protocol_fuzz::stream(ez_protocol_fuzz::Protocol::Gemini, bytes));
