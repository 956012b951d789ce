//! How this machine is called in a challenge.

/// The names that a challenge says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerNames {
    pub(super) computer: String,
    pub(super) host: String,
    pub(super) domain: String,
}

impl ServerNames {
    /// From the machine's name, with or without its domain.
    #[must_use]
    pub fn new(host: &str) -> Self {
        // At most as long as the kernel's own name of a machine; names of NetBIOS have 15 letters.
        let host: String = host.chars().take(64).collect();
        let (short, domain) = host.split_once('.').unwrap_or((&host, ""));
        Self {
            computer: short.chars().take(15).collect::<String>().to_uppercase(),
            domain: domain.to_owned(),
            host,
        }
    }
}
