//! The D-Bus service through a real dbus-daemon and polkitd: every row of the interface's coverage table, by
//! callers with rights and without.

mod bench;
mod manager;

use self::bench::Bench;
