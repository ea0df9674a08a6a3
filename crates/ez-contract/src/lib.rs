//! What both planes agree on: digests, model references, selectors, provider types, snapshot shapes, usage record, secret envelope. Pure: no I/O, no async.
