//! The D-Bus service through a real dbus-daemon and polkitd: every row of the interface's coverage table, by
//! callers with rights and without.

mod agent;
mod bench;
mod care;
mod delay;
mod examples;
mod help_desk;
mod interrupted;
mod life;
mod manager;
mod pinentry;
mod presence;
mod provisioning;
mod rights;

use self::bench::Bench;
