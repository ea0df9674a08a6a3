//! Streamed answers of Anthropic Messages.

#![no_main]

ez_protocol_fuzz::target!(|bytes| ez_protocol_fuzz::stream(ez_protocol_fuzz::Protocol::AnthropicMessages, bytes));
