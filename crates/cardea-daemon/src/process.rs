//! The process: settings, start, hardening, the service manager.

pub(crate) mod boot;
pub mod config;
pub mod hardening;
pub mod log;
pub mod notify;
pub(crate) mod panics;
