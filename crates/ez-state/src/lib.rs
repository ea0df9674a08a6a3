//! Shared runtime state behind one closed enum of backends, in-process and Redis: snapshot publication, leases, counters. The only crate that knows Redis.
