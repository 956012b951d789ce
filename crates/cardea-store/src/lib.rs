//! The card file.
