//! Control-plane rules and jobs: masters, keys, access, groups, bindings, snapshot building, outbox, logs. No HTTP server types.
