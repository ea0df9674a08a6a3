//! Open files: each call holds two connections, and many systems give a process 1,024 files until it asks for more.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files beside connections: logs, databases, the usage log.
const OTHER_FILES: u64 = 256;

/// Asks for as many open files as the system allows, and warns where that is too few for `connections` callers.
pub(crate) fn allow_for(connections: usize) {
    let needed = 2 * connections as u64 + OTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return;
    }
    let wanted = limit.maximum.map_or(needed, |maximum| maximum.min(needed));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum });
    if let Err(e) = raised {
        tracing::warn!(error = %e, "the limit of open files cannot be raised");
    }
    let allowed = getrlimit(Resource::Nofile).current;
    if let Some(allowed) = allowed.filter(|allowed| *allowed < needed) {
        tracing::warn!(allowed, needed, "too few open files for EZ_MAX_CONNECTIONS: raise `ulimit -n`, or lower it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_and_never_lowered() {
        let before = getrlimit(Resource::Nofile);
        allow_for(1);
        assert_eq!(getrlimit(Resource::Nofile), before, "enough already");
        allow_for(1 << 40);
        let after = getrlimit(Resource::Nofile);
        assert_eq!(after.maximum, before.maximum);
        assert_eq!(after.current, before.maximum.or(before.current).map(|most| most.min(2 * (1 << 40) + OTHER_FILES)));
    }
}
