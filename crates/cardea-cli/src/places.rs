//! Where an installation has its files, as far as several commands have to know.

/// pcscd's handler.
pub(crate) const HANDLER: &str = "/usr/lib/pcsc/drivers/serial/libifdcardea.so";
