//! The ways in: they translate, and the work is done below.

pub(crate) mod bus;
pub(crate) mod redirect;
pub(crate) mod socket;
