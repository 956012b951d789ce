//! What the daemon does to its own process before it touches a secret.
//!
//! Process-wide, so the program does it, never [`Daemon`](crate::Daemon).

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};

/// No core dumps, no reading of our memory by processes of the same user, memory locked where that is
/// allowed, files for our user only, as many open files as allowed. What cannot be had is logged.
pub fn harden() {
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "core dumps not switched off by limit");
    }
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "core dumps not switched off");
    }
    raise_descriptors();
    lock_memory();
}

/// The soft limit of open files is for programs that use select(2) (systemd.exec(5), `LimitNOFILE=`).
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if raised != limit
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, "limit of open files not raised");
    }
}

/// Keeps pages out of swap once they are touched.
///
/// Where the limit is finite a later thread stack beyond it could not be mapped at all, so then nothing is
/// locked: a working daemon is worth more.
fn lock_memory() {
    let unlimited = getrlimit(Resource::Memlock).current.is_none();
    if !unlimited && !rustix::process::geteuid().is_root() {
        tracing::warn!("memory not locked: RLIMIT_MEMLOCK is finite (LimitMEMLOCK=infinity helps)");
        return;
    }
    let all = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    if let Err(error) = mlockall(all) {
        tracing::warn!(%error, "memory not locked");
    }
}
