//! The program as it is installed.

mod hash;
