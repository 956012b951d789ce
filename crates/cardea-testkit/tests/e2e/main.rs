//! End to end: the products' binaries with pcscd, OpenSC and a software TPM.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod administrator;
mod attestation;
mod dbus;
mod doctor;
mod enrolment;
mod fixtures;
// The machine is an amd64 one, and its programs are the products as they were built.
#[cfg(target_arch = "x86_64")]
mod kernel_tpm;
// So is this one.
#[cfg(target_arch = "x86_64")]
mod live;
mod name_service;
mod old_state;
mod opensc;
mod other_machine;
mod p11_kit;
mod pkcs11;
mod pkcs11_beside_opensc;
mod pkcs11_gnutls;
mod pkcs11_java;
mod pkcs11_nss;
mod pkcs11_openssl;
mod pkcs11_p11_kit;
mod pkcs11_process;
mod pkcs11_provider;
mod pkcs11_ssh;
mod pkcs11_stress;
mod pkcs11_suite;
mod promises;
mod recovery;
mod remote_soak;
mod soak;
