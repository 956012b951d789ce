//! ISO/IEC 7816-4 wire formats.
