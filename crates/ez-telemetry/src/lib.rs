//! Logging, metrics, request ids: how every process of ez-api tells what it does.
