//! From card files to cards and back: loading, creation, destruction, drives, redirections, and the TPM's owner.

mod admin_key;
pub(crate) mod create;
pub(crate) mod destroy;
pub(crate) mod drive;
pub(crate) mod intents;
pub(crate) mod keeper;
pub(crate) mod load;
pub(crate) mod owner;
pub(crate) mod redirection;
pub(crate) mod tpm_admin;
