//! What people use cards for, with the real programs: each test that has shown a use says so
//! ([`cardea_testkit::uses`]), and `docs/uses/` has a page for it.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod active_directory;
mod authority;
mod browsers;
mod disk_encryption;
mod kerberos;
mod network;
mod object_mode;
mod openvpn;
mod pam;
mod redirect_ssh;
mod remote_desktop;
mod removable_drive;
mod sandbox;
mod signing;
mod smime;
mod ssh;
mod sssd;
mod strongswan;
mod tls;
mod wifi;

const PAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/uses");

/// Names of the pages.
fn pages() -> Vec<String> {
    let entries = std::fs::read_dir(PAGES).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "README.md").collect()
}

/// `cargo xtask uses` checks the rows themselves.
#[test]
fn every_page_is_in_the_table() {
    let table = std::fs::read_to_string(format!("{PAGES}/README.md")).unwrap();
    for name in pages() {
        assert!(table.contains(&format!("({name})")), "{name} has no row");
    }
}
