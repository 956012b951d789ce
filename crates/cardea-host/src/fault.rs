//! Places where a test may kill the daemon.
//!
//! In builds with debug assertions the environment variable `CARDEA_FAULT_POINT` names one of them; the
//! process then ends there as by `kill -9`, or the thread panics for `panic:` and the place. Release builds contain
//! none of this.

/// Ends the process when a test asked for it here.
#[cfg(debug_assertions)]
pub(crate) fn point(name: &str) {
    use std::sync::OnceLock;
    static WANTED: OnceLock<Option<String>> = OnceLock::new();
    let wanted = WANTED.get_or_init(|| std::env::var("CARDEA_FAULT_POINT").ok());
    let panicking = wanted
        .as_deref()
        .and_then(|wanted| wanted.strip_prefix("panic:"));
    assert_ne!(panicking, Some(name), "a test wanted it");
    if wanted.as_deref() == Some(name) {
        let ourselves = rustix::process::getpid();
        let _ = rustix::process::kill_process(ourselves, rustix::process::Signal::KILL);
        // The signal is on its way; nothing may happen after this place.
        loop {
            std::thread::park();
        }
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
pub(crate) fn point(_name: &str) {}
