//! Whole answers of Anthropic Messages.

#![no_main]

ez_protocol_fuzz::target!(|bytes| ez_protocol_fuzz::answer(ez_protocol_fuzz::Protocol::AnthropicMessages, bytes));
